"""Files that other programs read for as long as a command runs: a token, and plain settings.

What must not live here: what is in them (``credentials/server.py``, ``child_environment.py``).
"""

from __future__ import annotations

import os
import secrets
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from engine.cli.child_environment import settings_only
from engine.errors import UsageError


@contextmanager
def token_file(path: Path | None, token: str) -> Iterator[Path | None]:
    """The token in a file of the user's own, for as long as it is good for something."""
    if path is None:
        yield None
        return
    path = path.absolute()
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        # A new file, never one that somebody else has opened or linked; put in place whole.
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(token)  # without an end of line, which no header may have
        os.replace(draft, path)
    except OSError as error:
        with suppress(OSError):
            draft.unlink()
        raise UsageError(
            f"cannot write {path}: {error.strerror}", fix="Give --token-file another path"
        ) from None
    try:
        yield path
    finally:
        with suppress(OSError):
            if path.read_text() == token:  # and not that of one who serves in our place by now
                path.unlink()


@contextmanager
def settings_file(profile: str | None) -> Iterator[str]:
    """A configuration file for the child: the profile's settings, and no credentials."""
    name = profile or os.environ.get("AWS_PROFILE") or os.environ.get("AWS_DEFAULT_PROFILE")
    path = Path(os.environ.get("AWS_CONFIG_FILE") or "~/.aws/config").expanduser()
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            kept = settings_only(file, name or "default")
    except OSError:
        kept = ""
    if not kept:
        yield os.devnull
        return
    with tempfile.NamedTemporaryFile("w", prefix="s3engine-", suffix=".config") as file:
        file.write(kept)
        file.flush()
        yield file.name
