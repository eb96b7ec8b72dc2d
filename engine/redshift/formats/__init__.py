"""Formats of staged files: how COPY is told of them and how their rows are counted.

A new format is one file here and one line in ``FORMATS``. Formats never write SQL: they name
options, and ``copy_statement`` quotes them. What must not live here: sockets, and one format's
knowledge of another.
"""

from __future__ import annotations

from abc import abstractmethod
from pathlib import Path
from typing import Protocol

from engine.redshift.copy_statement import CopyFormat
from engine.redshift.rows import RowScan
from engine.registry import Registry


class StagingFormat(CopyFormat, Protocol):
    """One kind of staged file, with its options as frozen fields."""

    @property
    @abstractmethod
    def name(self) -> str:
        """The name in ``FORMATS``."""

    @property
    @abstractmethod
    def header_rows(self) -> int:
        """Rows at the top of each file that are not data."""

    @abstractmethod
    def scan(self, path: Path, gzip: bool) -> RowScan:
        """Count the rows of a local file. Blocks: call it in a thread.

        Raises:
            LoadRefused: The file is not of this format.
        """


FORMATS: Registry[type[StagingFormat]] = Registry(
    "staging format", {"csv": "engine.redshift.formats.csv:CsvFormat"}
)
