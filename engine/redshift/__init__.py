"""The load stage: files to S3, COPY into Redshift, compared and committed in one transaction.

A lazy door: names are imported at first use, so that importing it loads no driver.
Read in this order: ``request``, ``load``, ``transaction``, ``copy_statement``, ``reconcile``.
"""

from __future__ import annotations

import importlib
import sys
import types
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from engine.redshift.copy_manifest import CopyManifest, StagedFile
    from engine.redshift.copy_statement import (
        CopyKeys,
        CopyOptions,
        CopyRole,
        CopyStatement,
    )
    from engine.redshift.formats.csv import CsvFormat
    from engine.redshift.jdbc import JdbcUrl
    from engine.redshift.load import load
    from engine.redshift.reconcile import RejectedRow
    from engine.redshift.request import LoadReport, LoadRequest, Stage

__all__ = [
    "CopyKeys",
    "CopyManifest",
    "CopyOptions",
    "CopyRole",
    "CopyStatement",
    "CsvFormat",
    "JdbcUrl",
    "LoadReport",
    "LoadRequest",
    "RejectedRow",
    "Stage",
    "StagedFile",
    "load",
]

_HOMES = {
    "CopyKeys": "copy_statement",
    "CopyManifest": "copy_manifest",
    "CopyOptions": "copy_statement",
    "CopyRole": "copy_statement",
    "CopyStatement": "copy_statement",
    "CsvFormat": "formats.csv",
    "JdbcUrl": "jdbc",
    "LoadReport": "request",
    "LoadRequest": "request",
    "RejectedRow": "reconcile",
    "Stage": "request",
    "StagedFile": "copy_manifest",
    "load": "load",
}


def __getattr__(name: str) -> object:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found: object = getattr(importlib.import_module(f"{__name__}.{home}"), name)
    return found


def __dir__() -> list[str]:
    return sorted(__all__)


class _Door(types.ModuleType):
    """Keeps ``load`` the function: importing the submodule of that name would replace it."""

    def __setattr__(self, name: str, value: object) -> None:
        if name == "load" and isinstance(value, types.ModuleType):
            value = value.load
        super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Door
