"""CSV as COPY understands it: RFC 4180 quotes, one-byte delimiter, lines that end in LF.

https://docs.aws.amazon.com/redshift/latest/dg/copy-parameters-data-format.html#copy-csv
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import final

from engine.errors import UsageError
from engine.redshift.copy_statement import CopyOption
from engine.redshift.formats import StagingFormat
from engine.redshift.rows import RowScan, scan_csv


@final
@dataclass(frozen=True, slots=True)
class CsvFormat(StagingFormat):
    """Options of CSV files. All files of one load share them; gzip is told by the suffix ``.gz``.

    Attributes:
        delimiter: One ASCII character between fields.
        quote: One ASCII character around fields that hold a delimiter, a quote or a line end.
        header: Whether the first row of every file holds names.
        null_as: Text that stands for NULL; None leaves COPY's own rule (an empty field is NULL
            for all types but strings).

    Raises:
        UsageError: A delimiter or quote that COPY does not take.
    """

    delimiter: str = ","
    quote: str = '"'
    header: bool = False
    null_as: str | None = None

    def __post_init__(self) -> None:
        for name, value in (("delimiter", self.delimiter), ("quote", self.quote)):
            if len(value) != 1 or not value.isascii() or value in "\0\r\n":
                raise UsageError(f"the CSV {name} {value!r} is not one ASCII character")
        if self.delimiter == self.quote:
            raise UsageError("the CSV delimiter and quote are the same character")
        if self.null_as is not None and ("\0" in self.null_as or "\n" in self.null_as):
            raise UsageError("the CSV null text holds a NUL or a line end")

    @property
    def name(self) -> str:
        return "csv"

    @property
    def header_rows(self) -> int:
        return 1 if self.header else 0

    def copy_options(self, gzip: bool) -> Sequence[CopyOption]:
        options: list[CopyOption] = [
            ("FORMAT AS CSV", None),
            ("QUOTE AS", self.quote),
            ("DELIMITER", self.delimiter),
        ]
        if self.null_as is not None:
            options.append(("NULL AS", self.null_as))
        if self.header:
            options.append(("IGNOREHEADER", 1))
        if gzip:
            options.append(("GZIP", None))
        return options

    def scan(self, path: Path, gzip: bool) -> RowScan:
        return scan_csv(path, self.quote, gzip)
