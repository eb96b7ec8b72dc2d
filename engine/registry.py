"""Tables of implementations by name: ``name -> "module:Class"``, imported at first use.

Each family (data planes, checksums, providers, formats) keeps one table in its ``__init__.py``, so
that an implementation is one file and one line, and start-up imports none of them. What must not
live here: a table.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Generic, TypeVar, cast, final

from engine.errors import UsageError

T = TypeVar("T")


@final
class Registry(Generic[T]):
    """Named implementations of one seam.

    Args:
        what: What one entry is, for messages (``data plane``).
        targets: ``name -> "module:attribute"``.
    """

    def __init__(self, what: str, targets: Mapping[str, str]) -> None:
        self._what = what
        self._targets: dict[str, str] = {}
        self._loaded: dict[str, T] = {}
        for name, target in targets.items():
            self.register(name, target)

    def register(self, name: str, target: str) -> None:
        """Add or replace an entry; nothing is imported yet.

        Raises:
            UsageError: ``target`` is not of the form ``module:attribute``.
        """
        module, colon, attribute = target.partition(":")
        if not (module and colon and attribute):
            raise UsageError(
                f"{target!r} does not name a {self._what}", fix="Write it as package.module:Class"
            )
        self._targets[name] = target
        self._loaded.pop(name, None)

    def names(self) -> tuple[str, ...]:
        """All names, in the order they were registered."""
        return tuple(self._targets)

    def get(self, name: str) -> T:
        """The implementation called ``name``, imported now if it was not yet.

        Raises:
            UsageError: No such name, or its module or attribute does not exist.
        """
        if name not in self._loaded:
            self._loaded[name] = self._load(name)
        return self._loaded[name]

    def _load(self, name: str) -> T:
        target = self._targets.get(name)
        if target is None:
            import difflib

            close = difflib.get_close_matches(name, self._targets, n=1)
            hint = f"Did you mean {close[0]}? " if close else ""
            raise UsageError(
                f"unknown {self._what}: {name!r}", fix=f"{hint}Known: {', '.join(self._targets)}"
            )
        module, _, attribute = target.partition(":")
        try:
            return cast("T", getattr(importlib.import_module(module), attribute))
        except (ImportError, AttributeError) as error:
            raise UsageError(
                f"the {self._what} {name!r} could not be loaded from {target}: {error}"
            ) from error

    def __contains__(self, name: object) -> bool:
        return name in self._targets

    def __repr__(self) -> str:
        return f"<Registry of {self._what}: {', '.join(self._targets)}>"
