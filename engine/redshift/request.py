"""What a load is asked to do, what it reports, and how its files reach S3.

What lives here: values that check themselves, and the seam ``Stage``. What must not: doing it.
"""

from __future__ import annotations

import re
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from engine.errors import LoadRefused
from engine.redshift.copy_manifest import StagedFile
from engine.redshift.copy_statement import CopyOptions, CopyRole, identifier, table_name
from engine.redshift.formats import StagingFormat
from engine.redshift.formats.csv import CsvFormat
from engine.redshift.reconcile import RejectedRow
from engine.types import S3Url

# Keys must outlive all of COPY: its wait in the queue, twice the estimate, and this much.
# https://docs.aws.amazon.com/redshift/latest/dg/copy-usage_notes-access-permissions.html
LEASE_MARGIN_SECONDS = 60.0

_LOAD_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


class Stage(Protocol):
    """Puts files and bytes to S3 and takes them away again."""

    @abstractmethod
    async def put_files(self, files: Sequence[tuple[Path, S3Url]]) -> Sequence[StagedFile]:
        """Upload all files; what S3 acknowledged, in any order. Raises TransferError."""

    @abstractmethod
    async def put_bytes(self, url: S3Url, data: bytes) -> None:
        """Write one small object. Raises TransferError."""

    @abstractmethod
    async def sweep(self, urls: Sequence[S3Url]) -> None:
        """Delete the objects. Raises TransferError."""


@dataclass(frozen=True, slots=True)
class LoadRequest:
    """One load, checked when it is made.

    Attributes:
        files: Local files, plain or all of them ``.gz``.
        table: ``schema.table`` or ``table``, unquoted.
        staging: Prefix under which the load makes its own folder.
        load_id: Names the folder; a new one for every load. 1..64 of ``A-Za-z0-9._-``.
        authority: A role of the cluster, or ``"keys"`` for keys of the lease given to ``load``.
        columns: The columns that the files hold, in order; empty means all of the table's.
        keep_staged: Leave the staged files after success as well.
        estimate_seconds: How long COPY will take; only used with keys.
        queue_seconds: How long COPY may wait in the queue; only used with keys.

    Raises:
        LoadRefused: A value that cannot be used.
    """

    files: tuple[Path, ...]
    table: str
    staging: S3Url
    load_id: str
    authority: CopyRole | Literal["keys"]
    columns: tuple[str, ...] = ()
    format: StagingFormat = CsvFormat()
    options: CopyOptions = CopyOptions()
    keep_staged: bool = False
    estimate_seconds: float = 60.0
    queue_seconds: float = 30.0

    def __post_init__(self) -> None:
        table_name(self.table)
        for column in self.columns:
            identifier(column)
        if not self.files:
            raise LoadRefused("no file to load")
        if not _LOAD_ID.fullmatch(self.load_id):
            raise LoadRefused(
                f"{self.load_id[:80]!r} is not a load id", fix="1..64 of A-Za-z0-9._-"
            )
        if not (self.estimate_seconds >= 0 and self.queue_seconds >= 0):
            raise LoadRefused("the estimates of a load are seconds, 0 or more")

    @property
    def lease_seconds(self) -> float:
        """How long keys must live when COPY starts."""
        return self.queue_seconds + 2 * self.estimate_seconds + LEASE_MARGIN_SECONDS


@dataclass(frozen=True, slots=True)
class LoadReport:
    """A load that is committed.

    Attributes:
        rows_rejected: Rows passed over under MAXERROR; ``rejected`` has the first 100 of them.
        bytes_staged: Bytes of the files as stored.
        copy_id: Redshift's query id of the COPY.
        seconds: From the first look at the files to the end of the sweep.
        kept_stage: Whether staged files are still there.
        warnings: What did not go as it should and changes nothing of the load.
    """

    load_id: str
    table: str
    files_loaded: int
    rows_loaded: int
    rows_rejected: int
    rejected: tuple[RejectedRow, ...]
    bytes_staged: int
    staged_urls: tuple[S3Url, ...]
    manifest_url: S3Url
    copy_id: int
    seconds: float
    kept_stage: bool
    warnings: tuple[str, ...] = ()
