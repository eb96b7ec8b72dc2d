"""botocore's debug log without the secrets it holds.

At DEBUG botocore logs requests with their tokens and signatures, and answers that bring keys with
the keys. What must not live here: a handler, or a level; what is logged is the program's affair.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager

from engine.redact import redact

# What botocore.auth says of a signature, without a word that would give it away to ``redact``.
_SIGNATURE = re.compile(r"(?<=^Signature:\n)[0-9a-f]+")
_SDK = frozenset({"botocore", "aiobotocore", "boto3", "aioboto3"})


class _Redacting(logging.Filter):
    """Lets every record pass, its text masked. Only asked where the level lets the record be."""

    def filter(self, record: logging.LogRecord) -> bool:
        text = _SIGNATURE.sub("***", redact(record.getMessage()))
        record.msg, record.args = text, ()
        if record.exc_info:
            # As a text, which is what handlers make of it; an error may quote what was sent.
            record.exc_text = redact(logging.Formatter().formatException(record.exc_info))
            record.exc_info = None
        return True


@contextmanager
def redacted() -> Iterator[None]:
    """Mask what the SDK's loggers say, those of other users of the SDK included, meanwhile.

    A filter of a parent logger does not see the records of its children, so every logger that
    there is gets it: call this when the SDK's modules have been imported.
    """
    mask = _Redacting()
    names = [name for name in tuple(logging.root.manager.loggerDict) if _is_sdk(name)]
    loggers = [logging.getLogger(name) for name in names]
    for logger in loggers:
        logger.addFilter(mask)
    try:
        yield
    finally:
        for logger in loggers:
            logger.removeFilter(mask)


def _is_sdk(name: str) -> bool:
    return name.partition(".")[0] in _SDK
