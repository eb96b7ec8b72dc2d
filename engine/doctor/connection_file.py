"""The file of a connection: lines of ``name = value``, or JSON. PURE.

No error shows a value, nor a line: it may be half of a secret. What must not live here: what a
property means (``informatica.py``).
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from engine.errors import UsageError

# Hundreds of times what a connection needs.
MAX_FILE = 1024 * 1024
HOW = (
    "Write lines of name = value (IAM Role ARN = arn:...), or one JSON object of names and "
    "values, which may stand one level deep (s3engine doctor --help shows an example)"
)
_LINE = re.compile(r"\s*([^=:#!\s][^=:]*?)\s*[=:]\s*(.*?)\s*")


@dataclass(frozen=True, slots=True)
class Property:
    """One name and its value.

    Attributes:
        about: Whether it stands beside an object of properties, as what an API says about the
            connection does (``id``, ``orgId``): nobody wrote it, so it is no typing error.
    """

    name: str
    value: str
    about: bool = False


def read_text(data: bytes, what: str) -> str:
    """The text of a file that a person wrote.

    Raises:
        UsageError: It is none.
    """
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = "\0"
    if "\0" in text:
        raise UsageError(f"{what} is no text in UTF-8", fix="Save it as plain text in UTF-8")
    return text


def read_properties(text: str) -> list[Property]:
    """All properties, in their order.

    Raises:
        UsageError: Not such a file, or one without any.
    """
    if len(text) > MAX_FILE:
        raise UsageError(f"the connection file has more than {MAX_FILE} characters", fix=HOW)
    found = _from_json(text) if text.lstrip()[:1] in ("{", "[") else _from_lines(text)
    if not found:
        raise UsageError("no properties found in the connection file", fix=HOW)
    return found


def _from_lines(text: str) -> list[Property]:
    found: dict[str, Property] = {}
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.lstrip()[0] in "#!":
            continue
        match = _LINE.fullmatch(line)
        if match is None:
            raise UsageError(f"line {number} of the connection file is not name = value", fix=HOW)
        found[match[1]] = Property(match[1], match[2])
    return list(found.values())


def _from_json(text: str) -> list[Property]:
    try:
        document = json.loads(text)
    except ValueError as error:
        place = f"line {getattr(error, 'lineno', 0)} column {getattr(error, 'colno', 0)}"
        raise UsageError(f"the connection file is not JSON: {place}", fix=HOW) from None
    except RecursionError:
        raise _too_deep("") from None
    if isinstance(document, list) and len(document) == 1:
        document = document[0]  # a list of connections, as an API gives it
    if not isinstance(document, Mapping):
        raise UsageError("the connection file is not the JSON of one connection", fix=HOW)
    nested = any(isinstance(value, Mapping) for value in document.values())
    found: dict[str, Property] = {}
    for name, value in document.items():
        if isinstance(value, Mapping):
            found |= {key: Property(key, _text(key, inner)) for key, inner in value.items()}
        elif not (nested and isinstance(value, list)):
            found[name] = Property(name, _text(name, value), about=nested)
    return list(found.values())


def _text(name: str, value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, Mapping | list) and value:
        raise _too_deep(name)
    return str(value).lower() if isinstance(value, bool) else str(value)


def _too_deep(name: str) -> UsageError:
    where = f" below {name!r}" if name else ""
    return UsageError(f"the connection file is nested more than one level deep{where}", fix=HOW)
