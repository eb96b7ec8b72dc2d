"""Adapters: a broker's live credentials as other packages' clients take them.

One file a package, whose import is inside it, so that nothing is loaded for the others. All are
made from a ``SharedLease`` and ask it at every signature: none of the other packages' own windows
of renewal apply, and none of their calls reaches STS.
"""

from collections.abc import Callable
from typing import Any

from engine.errors import UsageError
from engine.registry import Registry

ADAPTERS: Registry[Callable[..., Any]] = Registry(
    "adapter of credentials",
    {
        "boto3": "engine.credentials.adapters.boto3:session",
        "aiobotocore": "engine.credentials.adapters.aiobotocore:session",
        "s3fs": "engine.credentials.adapters.s3fs:options",
        "obstore": "engine.credentials.adapters.obstore:provider",
    },
)
"""Package -> ``make(shared, ...)``; a new one is its file and its line."""


def missing(package: str) -> UsageError:
    """The error where an adapter's package is not installed."""
    return UsageError(
        f"the package {package} is not installed",
        fix=f"pip install {package}, or s3engine with its extra: pip install 's3engine[sharing]'",
    )
