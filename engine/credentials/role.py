"""RoleSpec: one AssumeRole request, checked before any call is made.

Rules: https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRole.html
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from msgspec import Struct

from engine.errors import UsageError
from engine.redact import mask_external_id

MIN_DURATION = 900
MAX_DURATION = 43_200
# A role that assumes a role: https://docs.aws.amazon.com/IAM/latest/UserGuide/id_roles.html
# ("Role chaining"). AssumeRole fails above it, whatever the role's MaxSessionDuration.
MAX_CHAINED_DURATION = 3_600
DEFAULT_DURATION = 900

# Compiled at first use: most runs have no role, or use few of these.
_ARN = r"arn:(aws|aws-cn|aws-us-gov):iam::(\d{12}):role/((?:[\x21-\x7e]+/)?)([\w+=,.@-]{1,64})"
_SESSION_NAME = r"[\w+=,.@-]{2,64}"
_EXTERNAL_ID = r"[\w+=,.@:/-]{2,1224}"
_SOURCE_IDENTITY = r"(?!aws:)[\w+=,.@-]{2,64}"
_POLICY = r"[\t\n\r\x20-\xff]+"
_POLICY_ARN = r"arn:(aws|aws-cn|aws-us-gov):iam::(aws|\d{12}):policy/[\x21-\x7e]{1,1900}"
_SERIAL_NUMBER = r"[\w+=/:,.@-]{9,256}"
_TOKEN_CODE = r"\d{6}"
_MAX_POLICY_CHARS = 2_048
_MAX_POLICY_ARNS = 10
_MAX_CONTEXTS = 5
_MAX_TAGS = 50
# Letters, spaces and digits of any script, and _.:/=+-@ (\w holds the underscore).
_TAG_KEY = r"[\w\s.:/=+\-@]{1,128}"
_TAG_VALUE = r"[\w\s.:/=+\-@]{0,256}"


class RoleArn(Struct, frozen=True):
    """``arn:aws:iam::111122223333:role/path/name``, taken apart. Role names are case-sensitive."""

    partition: str
    account: str
    path: str
    name: str

    @classmethod
    def parse(cls, text: str) -> RoleArn:
        """Raises UsageError if ``text`` is not the ARN of an IAM role."""
        match = re.fullmatch(_ARN, text)
        if match is None:
            raise UsageError(
                f"not the ARN of an IAM role: {text!r}",
                fix="Write it as arn:aws:iam::111122223333:role/name",
            )
        return cls(*match.groups())


@dataclass(frozen=True, slots=True)
class RoleSpec:
    """The role to assume, and how.

    Attributes:
        arn: Of the role.
        external_id: Agreed with the role's owner, 2 to 1,224 characters; blank is none.
        source: Where the caller's own credentials come from: the name of a source
            (``default``, ``env``, ``profile``, ``ec2``, ...; ``imds`` is another name for
            ``ec2``), or the role that assumes this one, which has a source in turn.
        session_name: Seen in CloudTrail of both accounts; None makes ``s3engine-<run id>``.
        duration: Seconds of one session, 900 to 43,200; at most 3,600 where the source is
            itself a role. Not the length of the job: sessions are renewed.
        tags: Session tags.
        transitive_tags: Keys of those tags that the next role of a chain inherits.
        policy: Inline session policy as JSON text.
        policy_arns: Managed policies that limit the session, of the role's account; at most 10.
        source_identity: Stays the same through a chain; must not begin with ``aws:``.
        serial_number: The MFA device whose ``token_code`` is given.
        token_code: Six digits. They work once, so a session that needs them is not renewed.
        provided_contexts: ``(provider ARN, assertion)`` of trusted identity propagation.

    Raises:
        UsageError: A value that STS would refuse.
    """

    arn: str
    external_id: str | None = field(default=None, repr=False)
    source: str | RoleSpec = "default"
    session_name: str | None = None
    duration: int = DEFAULT_DURATION
    tags: Mapping[str, str] = field(default_factory=dict)
    transitive_tags: tuple[str, ...] = ()
    policy: str | None = field(default=None, repr=False)
    policy_arns: tuple[str, ...] = ()
    source_identity: str | None = None
    serial_number: str | None = None
    token_code: str | None = field(default=None, repr=False)
    provided_contexts: tuple[tuple[str, str], ...] = field(default=(), repr=False)

    def __post_init__(self) -> None:
        RoleArn.parse(self.arn)
        if self.external_id is not None and not self.external_id.strip():
            object.__setattr__(self, "external_id", None)  # blank means none; STS refuses it
        _check(self.external_id, _EXTERNAL_ID, "external id", mask_external_id(self.external_id))
        _check(self.session_name, _SESSION_NAME, "role session name", repr(self.session_name))
        _check(
            self.source_identity, _SOURCE_IDENTITY, "source identity", repr(self.source_identity)
        )
        if not MIN_DURATION <= self.duration <= MAX_DURATION:
            raise UsageError(
                f"a session of {self.duration} s is not possible",
                fix=f"STS takes {MIN_DURATION} to {MAX_DURATION} seconds; "
                "a job may be longer, sessions are renewed while it runs",
            )
        self._check_policies()
        self._check_tags()
        self._check_mfa()
        _at_most("provided contexts", len(self.provided_contexts), _MAX_CONTEXTS)

    @property
    def role(self) -> RoleArn:
        return RoleArn.parse(self.arn)

    def hops(self) -> tuple[RoleSpec, ...]:
        """The roles from the first that is assumed to this one."""
        before = self.source.hops() if isinstance(self.source, RoleSpec) else ()
        return (*before, self)

    @property
    def first_source(self) -> str:
        """The name of the source that the first role of the chain is assumed with."""
        first = self.hops()[0].source
        assert isinstance(first, str)
        return first

    def parameters(self, session_name: str, duration: int) -> dict[str, object]:
        """The fields of the AssumeRole request, by their API names; absent ones left out."""
        fields: dict[str, object] = {
            "RoleArn": self.arn,
            "RoleSessionName": self.session_name or session_name,
            "DurationSeconds": duration,
            "ExternalId": self.external_id,
            "Policy": self.policy,
            "PolicyArns": [{"arn": arn} for arn in self.policy_arns],
            "Tags": [{"Key": key, "Value": value} for key, value in self.tags.items()],
            "TransitiveTagKeys": list(self.transitive_tags),
            "SourceIdentity": self.source_identity,
            "SerialNumber": self.serial_number,
            "TokenCode": self.token_code,
            "ProvidedContexts": [
                {"ProviderArn": arn, "ContextAssertion": assertion}
                for arn, assertion in self.provided_contexts
            ],
        }
        return {name: value for name, value in fields.items() if value not in (None, [])}

    def _check_policies(self) -> None:
        _at_most("session policy ARNs", len(self.policy_arns), _MAX_POLICY_ARNS)
        for arn in self.policy_arns:
            match = re.fullmatch(_POLICY_ARN, arn)
            if match is None or match[2] not in ("aws", self.role.account):
                raise UsageError(
                    f"not a managed policy of account {self.role.account}: {arn!r}",
                    fix="Session policies are of the role's own account, or AWS's "
                    "(arn:aws:iam::aws:policy/name)",
                )
        if self.policy is None:
            return
        import json  # few roles have a policy, and a start pays for it

        if not re.fullmatch(_POLICY, self.policy) or len(self.policy) > _MAX_POLICY_CHARS:
            raise UsageError(
                f"the session policy has {len(self.policy)} characters or one that STS refuses",
                fix=f"STS takes 1 to {_MAX_POLICY_CHARS} characters of Latin-1",
            )
        try:
            json.loads(self.policy)
        except (ValueError, RecursionError) as error:
            raise UsageError(f"the session policy is not JSON: {error}") from None

    def _check_tags(self) -> None:
        _at_most("session tags", len(self.tags), _MAX_TAGS)
        folded = [key.casefold() for key in self.tags]
        if len(set(folded)) != len(folded):
            raise UsageError("two session tags differ in case only; STS takes them for one")
        for key, value in self.tags.items():
            if not re.fullmatch(_TAG_KEY, key) or not re.fullmatch(_TAG_VALUE, value):
                raise UsageError(
                    f"session tag {key[:40]!r} is too long or has a character that STS refuses",
                    fix="Keys: 1 to 128 characters, values: 0 to 256, of letters, digits, spaces "
                    "and _.:/=+-@",
                )
        unknown = [key for key in self.transitive_tags if key not in self.tags]
        if unknown:
            raise UsageError(f"transitive tag {unknown[0]!r} is not among the session tags")

    def _check_mfa(self) -> None:
        _check(self.serial_number, _SERIAL_NUMBER, "MFA serial number", repr(self.serial_number))
        _check(self.token_code, _TOKEN_CODE, "MFA token code", "(not shown)")
        if (self.serial_number is None) != (self.token_code is None):
            raise UsageError(
                "MFA needs the device's serial number and a token code", fix="Give both or none"
            )


def _at_most(what: str, count: int, limit: int) -> None:
    if count > limit:
        raise UsageError(f"{count} {what}; STS takes {limit}")


def _check(value: str | None, pattern: str, name: str, shown: str) -> None:
    if value is not None and not re.fullmatch(pattern, value, re.ASCII):
        raise UsageError(f"STS does not take this {name}: {shown}", fix=f"It must match {pattern}")
