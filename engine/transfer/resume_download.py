"""A download by ranges that an earlier process began: what of it is on the disk.

Rules of this file
- A range is taken if its bytes, read again now, have the CRC that they had when they came.
- The object must be the one that was begun with, by its ETag; else all is fetched
  anew, with a word.
- The temporary file must be what it was: a regular file with one name, of the object's size.
- A file that has got its name already is whole only if all ranges are; it is never written to.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from msgspec import Struct, field, structs

from engine import disk
from engine.config import TransferConfig
from engine.errors import EngineError
from engine.events import BytesMoved, StartedOver, TakenUp
from engine.protocols import ChecksumAlgorithm
from engine.records import DownloadRecord
from engine.transfer.context import TransferContext
from engine.transfer.files import PartialFile, close, name_of
from engine.transfer.folders import Folder, OpenTree, enter
from engine.transfer.parts import Part, PartPlan
from engine.transfer.temporaries import is_temporary
from engine.transfer.workers import run_parts
from engine.types import MiB, ObjectInfo

# Ranges that are read again at once: each is a core's work.
_AT_ONCE = 4
_BLOCK = MiB


class TakenDownload(Struct, frozen=True):
    """What is there already.

    Attributes:
        partial: The file; None to begin a new one.
        crcs: Of the ranges that are in it, by their offsets.
    """

    partial: PartialFile | None = None
    crcs: Mapping[int, int] = field(default_factory=dict)


NOTHING = TakenDownload()


def planned_before(context: TransferContext) -> TransferContext:
    """``context`` with the sizes that the object's download was begun with, whatever is asked for
    now: ranges of another plan would not fit together."""
    record = context.journal.download if context.journal is not None else None
    config = context.config
    limits = config.limits
    if record is None or not limits.min_part_size <= record.part_size <= limits.max_part_size:
        return context
    before: TransferConfig = replace(
        config, part_size=record.part_size, multipart_download_threshold=0
    )
    return structs.replace(context, config=before)


def record_of(
    info: ObjectInfo, plan: PartPlan, algorithm: ChecksumAlgorithm | None, temporary: str
) -> DownloadRecord:
    """What a journal keeps of a download that begins."""
    return DownloadRecord(
        temporary=temporary,
        etag=info.etag,
        size=info.size,
        part_size=plan.part_size,
        version_id=info.version_id,
        checksum=info.checksum,
        algorithm=algorithm.name if algorithm is not None else "",
    )


async def take_up_download(
    info: ObjectInfo,
    target: Path,
    plan: PartPlan,
    algorithm: ChecksumAlgorithm | None,
    context: TransferContext,
) -> TakenDownload:
    """What the journal of the context has of the object, as far as it is still so; else nothing,
    after what was left is gone."""
    journal = context.journal
    record = journal.download if journal is not None else None
    if journal is None or record is None:
        return NOTHING
    reason = _unusable(info, plan, algorithm, record)
    if not reason and algorithm is not None:
        taken = await _reopened(info, target, plan, algorithm, context, record)
        if taken is not None:
            size = sum(part.length for part in plan.parts if part.offset in taken.crcs)
            context.emit(TakenUp(info.url, len(taken.crcs), len(plan.parts), size))
            if size:
                context.emit(BytesMoved(info.url, size))
            return taken
        reason = "its temporary file is gone, or another one"
    await drop_kept(target, context)
    context.emit(StartedOver(info.url, reason))
    return NOTHING


async def drop_kept(target: Path, context: TransferContext) -> None:
    """Nobody will go on with what an earlier process has of the object."""
    journal = context.journal
    if journal is not None and journal.download is not None:
        await context.door.run(_remove, target, journal.download.temporary, context.tree)
        await journal.ended()


def _unusable(
    info: ObjectInfo, plan: PartPlan, algorithm: ChecksumAlgorithm | None, record: DownloadRecord
) -> str:
    """Why no range fits; empty where some may."""
    if algorithm is None or not record.algorithm:
        return "without checksums nothing of it can be looked at again"
    if record.algorithm != algorithm.name:
        return "another checksum is asked for"
    versions = {record.version_id, info.version_id} - {None}
    same = record.etag.strip('"') == info.etag.strip('"') and len(versions) < 2
    if not same or record.size != info.size or not plan.multipart:
        return "the object is another one by now"
    return ""


async def _reopened(
    info: ObjectInfo,
    target: Path,
    plan: PartPlan,
    algorithm: ChecksumAlgorithm,
    context: TransferContext,
    record: DownloadRecord,
) -> TakenDownload | None:
    """The file, and what of it is right; None where there is none."""
    assert context.journal is not None
    partial = await context.door.run(_open, target, record, context.tree, discard=_close_if_any)
    if partial is None:
        return None
    kept = {(found.start, found.stop): found.crc for found in context.journal.ranges}

    async def look(part: Part) -> int | None:
        crc = kept.get((part.offset, part.offset + part.length))
        if crc is None:
            return None
        try:
            found = await context.door.run(
                sum_span, partial.descriptor, algorithm, part.offset, part.length
            )
        except OSError:
            return None  # what the disk does not give back is fetched again
        return found if found == crc else None

    async def look_at(part: Part) -> tuple[int | None]:
        return (await look(part),)

    try:
        looked = await run_parts(plan.parts, look_at, _AT_ONCE)
    except BaseException:
        close(partial)
        raise
    pairs = zip(plan.parts, looked, strict=True)
    crcs = {part.offset: crc for part, (crc,) in pairs if crc is not None}
    if partial.published and len(crcs) < len(plan.parts):
        close(partial)
        return None
    return TakenDownload(partial, crcs)


def _open(target: Path, record: DownloadRecord, tree: OpenTree | None) -> PartialFile | None:
    """In a thread."""
    if not is_temporary(record.temporary) or not os.path.isdir(target.parent):
        return None
    try:
        folder = enter(target, tree)
    except (EngineError, OSError):
        return None  # whoever begins anew says why
    partial = None
    try:
        _one_name(folder, record.temporary, name_of(target))
        partial = _open_regular(target, record.temporary, record.size, os.O_RDWR, folder)
        if partial is None and not _is_there(folder, record.temporary):
            # It may have got its name just before the death.
            partial = _open_regular(target, name_of(target), record.size, os.O_RDONLY, folder)
            if partial is not None:
                partial.published = True
        return partial
    finally:
        if partial is None:
            folder.leave()


def _one_name(folder: Folder, temporary: str, name: str) -> None:
    """A death may have left a file with both names (``disk.rename_new``)."""
    with contextlib.suppress(OSError):
        status = [disk.lstat(folder.name(one), dir_fd=folder.at) for one in (temporary, name)]
        if os.path.samestat(*status):
            disk.unlink(folder.name(temporary), dir_fd=folder.at)


def _is_there(folder: Folder, name: str) -> bool:
    try:
        disk.lstat(folder.name(name), dir_fd=folder.at)
    except OSError:
        return False
    return True


def _open_regular(
    target: Path, name: str, size: int, access: int, folder: Folder
) -> PartialFile | None:
    flags = access | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        descriptor = disk.open(folder.name(name), flags, dir_fd=folder.at)
    except OSError:
        return None
    status = disk.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode) or status.st_size != size or status.st_nlink != 1:
        disk.close(descriptor)
        return None
    return PartialFile(target, target.parent / name, descriptor, folder)


def _close_if_any(partial: PartialFile | None) -> None:
    if partial is not None:
        close(partial)


def _remove(target: Path, temporary: str, tree: OpenTree | None) -> None:
    """In a thread."""
    if not is_temporary(temporary) or not os.path.isdir(target.parent):
        return
    with contextlib.suppress(EngineError, OSError):
        folder = enter(target, tree)
        try:
            disk.unlink(folder.name(temporary), dir_fd=folder.at)
        finally:
            folder.leave()


def sum_span(descriptor: int, algorithm: ChecksumAlgorithm, offset: int, length: int) -> int:
    """In a thread: the CRC of bytes of an open file. Raises OSError, EOFError where it is short."""
    crc, stop = 0, offset + length
    buffer = memoryview(bytearray(min(_BLOCK, length)))
    while offset < stop:
        got = disk.preadv(descriptor, [buffer[: min(len(buffer), stop - offset)]], offset)
        if got == 0:
            raise OSError(0, "the file is shorter than it was")
        crc = algorithm.update(buffer[:got], crc)
        offset += got
    return crc
