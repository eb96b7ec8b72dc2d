"""The version, as a constant: asking the installed metadata costs a fifth of a start."""

from __future__ import annotations

VERSION = "0.1.0"
