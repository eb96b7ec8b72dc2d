"""What one file's object is stored as, beyond the options of the call. Facts of the file only.

What lives here: the type by the name, the time in the metadata. What must not: requests.
"""

from __future__ import annotations

import mimetypes
import re
from dataclasses import replace

from engine.options import ObjectOptions
from engine.protocols import ByteSource
from engine.threads import ThreadDoor
from engine.types import ObjectInfo

# Seconds since 1970 with a fraction. rclone writes and reads it so, and s3fs the whole seconds:
# https://rclone.org/s3/#modification-times-and-hashes
MTIME = "mtime"
_SECONDS = re.compile(r"(-?)([0-9]{1,12})(?:\.([0-9]{1,30}))?")
_NANO = 1_000_000_000
# A compressed file is not of the type that is inside: who says text/csv of day.csv.gz makes
# readers take gzip for lines.
_COMPRESSED = {
    "gzip": "application/gzip",
    "bzip2": "application/x-bzip2",
    "xz": "application/x-xz",
    "compress": "application/x-compress",
    "br": None,
}


async def options_for(
    source: ByteSource, options: ObjectOptions, door: ThreadDoor
) -> ObjectOptions:
    """``options`` with what the source itself says of its object."""
    if options.guess_content_type and options.content_type is None:
        if not mimetypes.inited:
            await door.run(mimetypes.init)  # reads the system's list of types
        guessed = content_type_of(source.name)
        if guessed is not None:
            options = replace(options, content_type=guessed)
    if options.preserve_mtime and source.mtime_ns is not None:
        kept = {**options.metadata, MTIME: mtime_text(source.mtime_ns)}
        options = replace(options, metadata=kept)
    return options


def content_type_of(name: str) -> str | None:
    """The type that a file's name promises; None where it promises none."""
    # Behind a folder, so that no name is read as a URL.
    kind, encoding = mimetypes.guess_type(f"./{name.rpartition('/')[2]}")
    return _COMPRESSED.get(encoding) if encoding is not None else kind


def mtime_text(mtime_ns: int) -> str:
    """Nanoseconds since 1970 as seconds with a fraction."""
    sign, whole = ("-", -mtime_ns) if mtime_ns < 0 else ("", mtime_ns)
    return f"{sign}{whole // _NANO}.{whole % _NANO:09d}"


def mtime_of(info: ObjectInfo) -> int | None:
    """The modification time in nanoseconds that an object's metadata has, if any can be read."""
    match = _SECONDS.fullmatch(info.metadata.get(MTIME, ""))
    if match is None:
        return None
    nanos = int(match[2]) * _NANO + int((match[3] or "")[:9].ljust(9, "0"))
    return -nanos if match[1] else nanos
