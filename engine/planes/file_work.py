"""What data planes do with files, in threads: read, sum, store.

What lives here: calls that block. What must not: choosing the thread, connections.
"""

from __future__ import annotations

from engine.protocols import ByteSink, ByteSource, ChecksumAlgorithm


def read_span(source: ByteSource, offset: int, view: memoryview, watched: bool) -> None:
    """Fill ``view``; ``watched``: the source must be what it was when it was opened.

    Raises:
        SourceChanged: It is another, or shorter.
    """
    source.read_into(offset, view)
    if watched:
        source.check_unchanged()


def sum_span(
    source: ByteSource,
    offset: int,
    length: int,
    algorithm: ChecksumAlgorithm,
    buffer: memoryview,
    watched: bool,
) -> int:
    """The CRC of a span, read through ``buffer``; ``watched`` and Raises as ``read_span``."""
    if source.memory is not None:
        return algorithm.update(source.memory[offset : offset + length])
    crc = done = 0
    while done < length:
        view = buffer[: min(length - done, len(buffer))]
        source.read_into(offset + done, view)
        crc = algorithm.update(view, crc)
        done += len(view)
    if watched:
        source.check_unchanged()
    return crc


def store_span(
    sink: ByteSink, offset: int, view: memoryview, algorithm: ChecksumAlgorithm | None, crc: int = 0
) -> int:
    """Sum the bytes, then write them; returns ``crc`` gone on with."""
    if algorithm is not None:
        crc = algorithm.update(view, crc)
    if sink.memory is not None:
        sink.memory[offset : offset + len(view)] = view
    else:
        sink.write_at(offset, view)
    return crc
