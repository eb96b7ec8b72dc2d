"""s3engine: S3 transfers under assumed roles that are renewed while bytes move, then Redshift.

Read in this order: ``api/engine`` (the front), ``credentials/broker``, ``transfer/upload``,
``redshift/load``. ``CONTRIBUTING.md`` has the map.

Names are loaded at first use, so that ``import engine`` loads neither aioboto3 nor asyncpg.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from engine.api import Engine, EngineStatistics
    from engine.batch import Failure, Manifest, ManifestEntry, Report
    from engine.batch.journal import Journal, JournalStatistics
    from engine.config import RetryPolicy, TransferConfig
    from engine.credentials import Broker, RoleSpec
    from engine.errors import (
        AccessDenied,
        AssumeRoleDenied,
        ChecksumMismatch,
        ClientEncrypted,
        CommitUnknown,
        ConnectionFailed,
        CopyFailed,
        CountMismatch,
        CredentialsError,
        CredentialsExpired,
        EngineError,
        JournalDamaged,
        JournalError,
        JournalVersion,
        LoadError,
        LoadRefused,
        NotFound,
        ObjectArchived,
        ObjectChanged,
        ObjectExists,
        RunInUse,
        S3Error,
        SourceChanged,
        TransferError,
        UsageError,
        WrongLoop,
    )
    from engine.limits import StoreLimits
    from engine.options import CustomerKey, Encryption, ObjectOptions
    from engine.redshift import CopyOptions, CsvFormat, LoadReport, RejectedRow
    from engine.transfer import ObjectReader, ObjectWriter
    from engine.types import (
        ByteRange,
        Checksum,
        Credentials,
        GiB,
        KiB,
        MiB,
        ObjectInfo,
        S3Url,
        TransferResult,
    )

_HOMES = {
    "engine.api": ("Engine", "EngineStatistics"),
    "engine.batch": ("Failure", "Manifest", "ManifestEntry", "Report"),
    "engine.batch.journal": ("Journal", "JournalStatistics"),
    "engine.config": ("RetryPolicy", "TransferConfig"),
    "engine.credentials": ("Broker", "RoleSpec"),
    "engine.errors": (
        "AccessDenied",
        "AssumeRoleDenied",
        "ChecksumMismatch",
        "ClientEncrypted",
        "CommitUnknown",
        "ConnectionFailed",
        "CopyFailed",
        "CountMismatch",
        "CredentialsError",
        "CredentialsExpired",
        "EngineError",
        "JournalDamaged",
        "JournalError",
        "JournalVersion",
        "LoadError",
        "LoadRefused",
        "NotFound",
        "ObjectArchived",
        "ObjectChanged",
        "ObjectExists",
        "RunInUse",
        "S3Error",
        "SourceChanged",
        "TransferError",
        "UsageError",
        "WrongLoop",
    ),
    "engine.limits": ("StoreLimits",),
    "engine.options": ("CustomerKey", "Encryption", "ObjectOptions"),
    "engine.redshift": ("CopyOptions", "CsvFormat", "LoadReport", "RejectedRow"),
    "engine.transfer": ("ObjectReader", "ObjectWriter"),
    "engine.types": (
        "ByteRange",
        "Checksum",
        "Credentials",
        "GiB",
        "KiB",
        "MiB",
        "ObjectInfo",
        "S3Url",
        "TransferResult",
    ),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "AccessDenied",
    "AssumeRoleDenied",
    "Broker",
    "ByteRange",
    "Checksum",
    "ChecksumMismatch",
    "ClientEncrypted",
    "CommitUnknown",
    "ConnectionFailed",
    "CopyFailed",
    "CopyOptions",
    "CountMismatch",
    "Credentials",
    "CredentialsError",
    "CredentialsExpired",
    "CsvFormat",
    "CustomerKey",
    "Encryption",
    "Engine",
    "EngineError",
    "EngineStatistics",
    "Failure",
    "GiB",
    "Journal",
    "JournalDamaged",
    "JournalError",
    "JournalStatistics",
    "JournalVersion",
    "KiB",
    "LoadError",
    "LoadRefused",
    "LoadReport",
    "Manifest",
    "ManifestEntry",
    "MiB",
    "NotFound",
    "ObjectArchived",
    "ObjectChanged",
    "ObjectExists",
    "ObjectInfo",
    "ObjectOptions",
    "ObjectReader",
    "ObjectWriter",
    "RejectedRow",
    "Report",
    "RetryPolicy",
    "RoleSpec",
    "RunInUse",
    "S3Error",
    "S3Url",
    "SourceChanged",
    "StoreLimits",
    "TransferConfig",
    "TransferError",
    "TransferResult",
    "UsageError",
    "WrongLoop",
]


def __getattr__(name: str) -> object:
    home = _HOME_OF.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value: object = getattr(importlib.import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
