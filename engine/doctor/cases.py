"""Which of the four cases an AssumeRole is, and the names of who takes part. PURE.

1. An IAM user and a role of the same account. 2. A role of another account. 3. The same with an
external id. 4. A role that assumes a role: sessions of at most an hour, whatever the role allows
(https://docs.aws.amazon.com/IAM/latest/UserGuide/id_roles.html, "Role chaining").

What must not live here: a call, or a policy document (``policies.py``).
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

from engine.credentials import RoleArn
from engine.types import CallerIdentity


class Case(enum.Enum):
    """By the numbers that people know them by; ``UNKNOWN`` where STS does not say who calls,
    ``NO_SOURCE`` where nobody does."""

    NO_ROLE = "no role"
    SAME_ACCOUNT = "1"
    OTHER_ACCOUNT = "2"
    EXTERNAL_ID = "3"
    CHAINED = "4"
    UNKNOWN = "1, 2 or 3"
    NO_SOURCE = "not known"


@dataclass(frozen=True, slots=True)
class Situation:
    """One hop, as far as it is known.

    Attributes:
        same_account: Whether caller and role are of one account; None where that is not known.
    """

    case: Case
    same_account: bool | None = None
    title: str = ""

    @property
    def heading(self) -> str:
        """``case 2  IAM user -> role, other account``."""
        prefix = "" if self.case is Case.NO_ROLE else "case "
        return f"{prefix}{self.case.value}  {self.title}"


def which_case(
    caller: CallerIdentity | None,
    role: RoleArn | None,
    external_id: str | None,
    source_is_role: bool,
    *,
    on_ec2: bool = False,
) -> Situation:
    """Which case it is that ``caller`` assumes ``role``.

    Args:
        caller: Who it is; None where STS does not say.
        source_is_role: Whether the source gives sessions of a role, as far as it knows itself.
            The identity wins: keys with a session token may be a user's own (GetSessionToken).
        on_ec2: For the words only.
    """
    if role is None:
        return Situation(Case.NO_ROLE, title="the source's own permissions are used")
    chained = source_is_role if caller is None else caller.is_session
    same = None if caller is None else caller.account == role.account
    where = {True: ", same account", False: ", other account", None: ""}[same]
    if caller is not None and caller.is_root:
        return Situation(
            Case.SAME_ACCOUNT if same else Case.OTHER_ACCOUNT, same, "root user -> role"
        )
    if chained:
        who = "EC2 role" if on_ec2 else "role"
        return Situation(Case.CHAINED, same, f"{who} -> role{where}")
    if same is None:
        return Situation(Case.UNKNOWN, None, "IAM user -> role; this STS does not say who calls")
    if same:
        return Situation(Case.SAME_ACCOUNT, True, f"IAM user -> role{where}")
    if external_id:
        return Situation(Case.EXTERNAL_ID, False, f"IAM user -> role{where}, external id")
    return Situation(Case.OTHER_ACCOUNT, False, f"IAM user -> role{where}")


def who_is(caller: CallerIdentity) -> str:
    """``user etl``, ``role etl-host``, ``root user``: the caller without its account."""
    if caller.is_root:
        return "root user"
    resource = caller.arn.split(":", 5)[-1]
    kind, _, name = resource.partition("/")
    if caller.is_session:
        return f"role {name.partition('/')[0]}"
    if kind == "user":
        return f"user {name.rpartition('/')[2]}"
    return resource.replace("/", " ", 1)


def principal_of(caller: CallerIdentity, assumed: str | None = None) -> str:
    """The ARN that a trust policy has to name to mean ``caller``.

    A session's own ARN would end with the session: the role behind it is named instead.

    Args:
        assumed: ARN of the role that ``caller`` is a session of, where it is known. STS leaves
            out the path of a role, and a principal needs it.
    """
    if assumed is not None:
        return assumed
    if not caller.is_session:
        return caller.arn
    partition = caller.arn.split(":", 2)[1]
    name = caller.arn.split("/")[1]
    return f"arn:{partition}:iam::{caller.account}:role/{name}"
