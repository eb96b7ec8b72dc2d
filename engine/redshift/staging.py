"""Local files of a load: checked, counted, named at S3, and seen again after they were staged.

What lives here: everything about the files that needs no database. What must not: moving bytes.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from engine.errors import LoadRefused, SourceChanged
from engine.redshift.copy_manifest import StagedFile
from engine.redshift.formats import StagingFormat
from engine.threads import ThreadDoor
from engine.transfer.sources import Fingerprint
from engine.types import S3Url

# As many as a manifest of 16 MiB holds; one COPY should have far fewer.
MAX_FILES = 80_000
# Load history keeps 256 characters of a URL, so the name is kept short.
_MAX_NAME = 80
_UNSAFE = re.compile(r"[^A-Za-z0-9._-]")
_GZIP = ".gz"
_OTHER_COMPRESSION = (".bz2", ".lzo", ".zst", ".zip", ".xz", ".7z")


@dataclass(frozen=True, slots=True)
class LocalFile:
    """One file to load.

    Attributes:
        rows: Rows of data, without header rows.
    """

    path: Path
    fingerprint: Fingerprint
    gzip: bool
    rows: int = 0


@dataclass(frozen=True, slots=True)
class StagePlan:
    """Where the files of one load go. ``folder`` ends in a slash."""

    folder: S3Url
    manifest_url: S3Url
    files: tuple[tuple[LocalFile, S3Url], ...]

    @property
    def rows(self) -> int:
        """Rows of data in all files."""
        return sum(file.rows for file, _ in self.files)

    @property
    def gzip(self) -> bool:
        return self.files[0][0].gzip

    def check_staged(self, staged: Sequence[StagedFile]) -> None:
        """Every file lies where it should, as long as it was.

        Raises:
            SourceChanged: An object is missing, or its size is not the file's.
        """
        sizes = {file.url: file.size for file in staged}
        for file, url in self.files:
            if sizes.get(url) != file.fingerprint.size or len(sizes) != len(self.files):
                raise SourceChanged(
                    f"{file.path} was not staged as it was counted",
                    staged=url,
                    counted_bytes=file.fingerprint.size,
                    staged_bytes=sizes.get(url, "none"),
                )


def plan_stage(files: Sequence[LocalFile], staging: S3Url, load_id: str) -> StagePlan:
    """Names under ``<staging>/<load id>/``: numbered, so that equal names cannot collide."""
    folder = staging.join(load_id + "/")
    named = [
        (file, folder.join(f"{number:05d}-{_safe_name(file.path.name)}"))
        for number, file in enumerate(files, 1)
    ]
    return StagePlan(folder, folder.join("manifest.json"), tuple(named))


async def count_files(
    paths: Sequence[Path], format: StagingFormat, threads: ThreadDoor
) -> tuple[LocalFile, ...]:
    """The files with their rows of data, in order.

    Raises:
        LoadRefused: No file, too many, one that is missing, not regular or named twice, gzip and
            plain files in one load, or content that is not of ``format``.
    """
    files = await threads.run(_check_files, tuple(paths))
    counted = []
    for file in files:
        scan = await threads.run(format.scan, file.path, file.gzip)
        rows = max(0, scan.rows - format.header_rows)
        counted.append(LocalFile(file.path, file.fingerprint, file.gzip, rows))
    return tuple(counted)


async def check_unchanged(files: Sequence[LocalFile], threads: ThreadDoor) -> None:
    """The files are still those that were counted.

    Raises:
        SourceChanged: Size, modification time or inode differ, or a file is gone.
    """
    await threads.run(_check_unchanged, tuple(files))


def _check_files(paths: tuple[Path, ...]) -> tuple[LocalFile, ...]:
    if not 1 <= len(paths) <= MAX_FILES:
        raise LoadRefused(f"{len(paths)} files to load", fix=f"One load takes 1..{MAX_FILES}")
    files = tuple(_check_file(path) for path in paths)
    seen: set[str] = set()
    for file in files:
        real = os.path.realpath(file.path)
        if real in seen:
            raise LoadRefused(f"{file.path} is named twice; its rows would be loaded twice")
        seen.add(real)
    packed = [file for file in files if file.gzip]
    if packed and len(packed) != len(files):
        plain = next(file for file in files if not file.gzip)
        raise LoadRefused(
            f"gzip and plain files in one load: {packed[0].path} and {plain.path}",
            fix="One COPY has one compression; load them one after the other",
        )
    return files


def _check_file(path: Path) -> LocalFile:
    try:
        found = os.stat(path)
    except OSError as error:
        raise LoadRefused(f"{path} cannot be loaded", reason=error.strerror) from error
    if not stat.S_ISREG(found.st_mode):
        fix = f"Name its files: '{path}/*'" if stat.S_ISDIR(found.st_mode) else ""
        raise LoadRefused(f"{path} is not a regular file", fix=fix)
    if path.suffix.lower() in _OTHER_COMPRESSION:
        raise LoadRefused(f"{path} is compressed in a way that is not supported", fix="Use gzip")
    return LocalFile(path, Fingerprint.of(found), path.suffix.lower() == _GZIP)


def _check_unchanged(files: tuple[LocalFile, ...]) -> None:
    for file in files:
        try:
            same = Fingerprint.of(os.stat(file.path)) == file.fingerprint
        except OSError as error:
            raise SourceChanged(
                f"{file.path} is gone since it was counted", reason=error.strerror
            ) from error
        if not same:
            raise SourceChanged(
                f"{file.path} changed while it was staged", fix="Load it again when it is at rest"
            )


def _safe_name(name: str) -> str:
    """The end of a name, which holds the suffixes, in characters that need no escaping."""
    return _UNSAFE.sub("_", name)[-_MAX_NAME:]
