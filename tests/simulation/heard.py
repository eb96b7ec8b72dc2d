"""All that the engine says in one schedule: events, errors, log records. For secrets to be sought.

What must not live here: what is said to be right.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator

from engine.events import Event
from engine.testing.simulation import World

# Errors that one error is from, at most.
_MAX_CHAIN = 20


class Heard(logging.Handler):
    """Listens, as a hook and as a logging handler.

    Attributes:
        events: In their order.
    """

    def __init__(self, world: World) -> None:
        super().__init__(logging.DEBUG)
        self.events: list[Event] = []
        self._world = world
        self._texts: list[str] = []

    def hear(self, event: Event) -> None:
        """The engine's hook."""
        if self._world.dead:
            return
        self.events.append(event)
        self._texts.append(repr(event))
        self._world.tell(type(event).__name__)

    def error(self, error: BaseException) -> None:
        """All that an error says: itself, its facts, its notes, and what it is from."""
        one: BaseException | None = error
        for _ in range(_MAX_CHAIN):
            if one is None:
                return
            self._texts += [str(one), repr(one), repr(vars(one)), *getattr(one, "__notes__", ())]
            one = one.__cause__ or one.__context__

    def emit(self, record: logging.LogRecord) -> None:
        self._texts.append(self.format(record))

    def has(self, text: str) -> bool:
        """Whether it was said."""
        return any(text in said for said in self._texts)

    def __len__(self) -> int:
        return len(self.events)

    @contextlib.contextmanager
    def listening(self) -> Iterator[None]:
        """To the log, at every level."""
        logger = logging.getLogger()
        level = logger.level
        logger.addHandler(self)
        logger.setLevel(logging.DEBUG)
        try:
            yield
        finally:
            logger.removeHandler(self)
            logger.setLevel(level)
