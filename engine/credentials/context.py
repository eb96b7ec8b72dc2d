"""What a source of credentials is made from, and what making one gives.

What must not live here: a source (``providers/``), or which one is chosen (``sources.py``).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from random import Random
from typing import NoReturn

from msgspec import Struct

from engine.config import Endpoints
from engine.credentials.role import RoleSpec
from engine.credentials.sts import Sts
from engine.errors import UsageError
from engine.protocols import CredentialProvider
from engine.redact import mask_key_id
from engine.threads import ThreadDoor
from engine.types import Credentials, not_pickled


@dataclass(frozen=True, slots=True)
class SourceContext:
    """Everything that a source may look at.

    Attributes:
        environ: Read at every fetch, where the source is in it.
        sts: For the sources that are calls of STS (web identity, SAML).
        session_name: Of roles whose settings give none.
        profile: The name asked for by the user; None leaves it to AWS_PROFILE, then ``default``.
        user_agent: Sent to services that the source calls.
        random: Where jitter comes from; passed so that a run can be repeated.
    """

    environ: Mapping[str, str] = field(repr=False)  # keys may be in it
    endpoints: Endpoints
    sts: Sts
    session_name: str
    door: ThreadDoor
    profile: str | None = None
    user_agent: str = "s3engine"
    random: Random | None = None

    def __reduce__(self) -> NoReturn:
        raise TypeError(not_pickled("SourceContext"))  # the environment may hold keys


class SourcePlan(Struct, frozen=True):
    """A source, and the roles to assume with it, in order, before those that the user named.

    Attributes:
        why: A line for each place that was looked at; the last one is the choice.
    """

    provider: CredentialProvider
    roles: tuple[RoleSpec, ...] = ()
    why: tuple[str, ...] = ()


def check_whole(credentials: Credentials) -> None:
    """Raises UsageError for a temporary key (``ASIA...``) without its session token. AWS would
    answer InvalidClientTokenId, which says nothing."""
    if credentials.access_key_id.startswith("ASIA") and not credentials.session_token:
        raise UsageError(
            f"temporary key {mask_key_id(credentials.access_key_id)} without session token",
            fix="Set AWS_SESSION_TOKEN too",
        )
