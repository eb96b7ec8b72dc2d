"""TransferContext: what every verb of this room works with. Values and seams."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

from msgspec import Struct, field
from msgspec.structs import replace

from engine.config import TransferConfig
from engine.events import BytesMoved, Emit, Event
from engine.options import PLAIN, ObjectOptions
from engine.protocols import Clock, ControlPlane, DataPlane, Lease, ObjectJournal
from engine.retry import Retrier
from engine.threads import ThreadDoor
from engine.transfer.folders import OpenTree
from engine.transfer.limiter import Limiter
from engine.transfer.own_uploads import OwnUploads
from engine.transfer.source_tree import SourceTree
from engine.transfer.temporaries import WITHOUT_RUN, Temporaries
from engine.transfer.writer import FileWriter
from engine.types import S3Url

T = TypeVar("T")


class CopyRules(Struct, frozen=True):
    """How objects are copied from S3 to S3.

    Attributes:
        through: Fetch and send the bytes, instead of having S3 copy them.
        keep_tags: The copy gets the tags of the source.
        source_options: What S3 wants to hear of the source.
        source: Reads the source, where that takes other credentials than writing the target;
            the bytes go through then.
    """

    through: bool = False
    keep_tags: bool = True
    source_options: ObjectOptions = PLAIN
    source: TransferContext | None = None


class TransferContext(Struct, frozen=True):
    """Shared by all transfers of one engine and one lease, but for

    ``journal``: what is kept of the one object that is moved, where anything is;
    ``tree``: the folder that the files which are written must stay in, where there is one;
    ``source_tree``: that of those which are read.
    """

    data: DataPlane
    control: ControlPlane
    config: TransferConfig
    retrier: Retrier
    limiter: Limiter
    door: ThreadDoor
    writer: FileWriter
    clock: Clock
    emit: Emit
    lease: Lease | None = None
    options: ObjectOptions = PLAIN
    copies: CopyRules = CopyRules()
    journal: ObjectJournal | None = None
    temporaries: Temporaries = WITHOUT_RUN
    tree: OpenTree | None = None
    source_tree: SourceTree | None = None
    own_uploads: OwnUploads = field(default_factory=OwnUploads)

    async def ask(
        self, operation: str, url: S3Url, call: Callable[[], Awaitable[T]]
    ) -> tuple[T, int]:
        """``Retrier.run`` for a request that takes no slot, when it is its turn."""

        async def in_turn() -> T:
            async with self.limiter.turn(url):
                return await call()

        return await self.retrier.run(operation, url, in_turn)


def uncounted(context: TransferContext) -> TransferContext:
    """For bytes that are moved once more: they count once, so ``BytesMoved`` is not told again."""

    def emit(event: Event) -> None:
        if not isinstance(event, BytesMoved):
            context.emit(event)

    return replace(context, emit=emit)
