"""EngineStage: how a load's files reach S3, over the transfer room."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import final

from engine.redshift.copy_manifest import StagedFile
from engine.redshift.request import Stage
from engine.transfer import BytesSource, TransferContext, open_file, upload
from engine.transfer.workers import run_parts
from engine.types import S3Url


@final
class EngineStage(Stage):
    """Stages with the lease of an engine."""

    def __init__(self, context: TransferContext) -> None:
        self._context = context

    async def put_files(self, files: Sequence[tuple[Path, S3Url]]) -> Sequence[StagedFile]:
        async def put(file: tuple[Path, S3Url]) -> StagedFile:
            path, url = file
            async with open_file(path, self._context.door) as source:
                result = await upload(source, url, self._context)
            return StagedFile(url=url, size=result.size, etag=result.etag)

        return await run_parts(files, put, self._context.limiter.max_objects)

    async def put_bytes(self, url: S3Url, data: bytes) -> None:
        await upload(BytesSource(data, str(url)), url, self._context)

    async def sweep(self, urls: Sequence[S3Url]) -> None:
        if not urls:
            return
        await self._context.retrier.run(
            "delete objects",
            urls[0],
            lambda: self._context.control.delete_objects(urls, options=self._context.options),
        )
