"""The manifest that COPY reads: which objects, all of them mandatory, with their sizes. PURE.

https://docs.aws.amazon.com/redshift/latest/dg/loading-data-files-using-manifest.html
What lives here: names and sizes to JSON bytes. What must not: anything that writes them.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import final

from engine.errors import LoadRefused
from engine.types import MiB, S3Url

# Ours, not AWS's: no limit is documented. 16 MiB hold about 80,000 files, far beyond the few per
# slice that one COPY should have, and are still read at once by the leader node.
MAX_MANIFEST_BYTES = 16 * MiB


@dataclass(frozen=True, slots=True)
class StagedFile:
    """One object that lies at S3 for COPY. ``size`` is in bytes, as stored (compressed)."""

    url: S3Url
    size: int
    etag: str


@final
@dataclass(frozen=True, slots=True)
class CopyManifest:
    """A manifest that is legal: not empty, no object twice, every object mandatory."""

    files: tuple[StagedFile, ...]

    @classmethod
    def of(cls, files: Iterable[StagedFile]) -> CopyManifest:
        """A manifest of ``files``, in their order.

        Raises:
            LoadRefused: No file at all, an object twice (COPY would load it twice), a negative
                size, or a key that is no key.
        """
        listed = tuple(files)
        if not listed:
            raise LoadRefused("a manifest without a file", fix="COPY needs at least one file")
        seen: set[S3Url] = set()
        for file in listed:
            if file.url in seen:
                raise LoadRefused(
                    f"{file.url} stands twice in the manifest; COPY would load it twice"
                )
            if not file.url.key or file.size < 0:
                raise LoadRefused(f"{file.url} with {file.size} bytes is not an object to load")
            seen.add(file.url)
        return cls(listed)

    @property
    def size(self) -> int:
        """Bytes of all objects."""
        return sum(file.size for file in self.files)

    def encode(self) -> bytes:
        """The manifest as UTF-8 JSON, to be stored neither compressed nor encrypted.

        ``mandatory`` is always true: with the default, false, COPY passes over a missing object
        in silence. ``content_length`` must be the true size.

        Raises:
            LoadRefused: Over 16 MiB, or a key that is not valid Unicode.
        """
        entries = [
            {"url": str(file.url), "mandatory": True, "meta": {"content_length": file.size}}
            for file in self.files
        ]
        try:
            data = json.dumps({"entries": entries}, ensure_ascii=False, indent=1).encode()
        except UnicodeEncodeError:
            raise LoadRefused("a key of the manifest is not valid Unicode") from None
        if len(data) > MAX_MANIFEST_BYTES:
            raise LoadRefused(
                f"the manifest of {len(self.files)} files has {len(data)} bytes",
                fix=f"At most {MAX_MANIFEST_BYTES}: load fewer, bigger files",
            )
        return data
