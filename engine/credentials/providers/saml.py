"""A role assumed with a SAML assertion of a company's identity provider.

Refresh rule: the assertion is asked for at every renewal, from whoever gave us the function; it is
usable for about 5 minutes only, so none is kept.

Rules: https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRoleWithSAML.html
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from functools import partial
from typing import final

from engine.credentials.child import ask_program, split_command
from engine.credentials.context import SourceContext
from engine.credentials.role import DEFAULT_DURATION, RoleSpec
from engine.credentials.sts import Sts
from engine.errors import CredentialsError, SourceMissing, UsageError
from engine.protocols import CredentialProvider
from engine.types import Credentials

COMMAND_VARIABLE = "S3ENGINE_SAML_ASSERTION_COMMAND"
ROLE_VARIABLE = "S3ENGINE_SAML_ROLE_ARN"
PRINCIPAL_VARIABLE = "S3ENGINE_SAML_PRINCIPAL_ARN"
DURATION_VARIABLE = "S3ENGINE_SAML_DURATION"
# What STS takes for an assertion, in base64.
MIN_ASSERTION, MAX_ASSERTION = 4, 100_000

_PRINCIPAL = re.compile(r"arn:(aws|aws-cn|aws-us-gov):iam::\d{12}:saml-provider/[\w.-]{1,128}")
_BASE64 = re.compile(r"[A-Za-z0-9+/]+={0,2}")


@final
class SamlProvider(CredentialProvider):
    """Assumes ``role_arn`` with an assertion. The call is not signed.

    Args:
        principal_arn: Of the identity provider in IAM
            (``arn:aws:iam::111122223333:saml-provider/name``).
        assertion: Gets the whole response of the identity provider, in base64; awaited at every
            renewal. What it raises must not hold the assertion.
        duration: Seconds of one session; the assertion may end it earlier.

    Raises:
        UsageError: A value that STS would refuse.
    """

    def __init__(
        self,
        role_arn: str,
        principal_arn: str,
        assertion: Callable[[], Awaitable[str]],
        sts: Sts,
        duration: int = DEFAULT_DURATION,
    ) -> None:
        if not _PRINCIPAL.fullmatch(principal_arn):
            raise UsageError(
                f"not the ARN of a SAML provider: {principal_arn!r}",
                fix="Write it as arn:aws:iam::111122223333:saml-provider/name",
            )
        self._role = RoleSpec(role_arn, duration=duration)
        self._principal_arn = principal_arn
        self._assertion = assertion
        self._sts = sts

    async def fetch(self) -> Credentials:
        # Line breaks, as base64 tools make them, are no part of it.
        assertion = "".join((await self._assertion()).split())
        fits = MIN_ASSERTION <= len(assertion) <= MAX_ASSERTION
        if not fits or not _BASE64.fullmatch(assertion):
            raise CredentialsError(
                f"no SAML assertion: {len(assertion)} characters, or not base64",
                fix=f"STS takes {MIN_ASSERTION} to {MAX_ASSERTION} characters: the SAMLResponse "
                "that the identity provider posts to the browser",
            )
        return await self._sts.assume_role_with_saml(
            {
                "RoleArn": self._role.arn,
                "PrincipalArn": self._principal_arn,
                "SAMLAssertion": assertion,
                "DurationSeconds": self._role.duration,
            }
        )

    def describe(self) -> str:
        role = self._role.role
        return f"role {role.name} in {role.account} by SAML"


def from_environment(context: SourceContext) -> SamlProvider:
    """The factory of ``saml``: a program prints the assertion, run at every renewal.

    Raises:
        SourceMissing: One of the three variables is not set.
        UsageError: A value that STS would refuse, or a command that cannot be split.
    """
    names = (COMMAND_VARIABLE, ROLE_VARIABLE, PRINCIPAL_VARIABLE)
    command, role_arn, principal_arn = (context.environ.get(name, "") for name in names)
    missing = [name for name in names if not context.environ.get(name)]
    if missing:
        raise SourceMissing(
            f"{', '.join(missing)} is not set"
            if len(missing) == 1
            else f"{', '.join(missing)} are not set",
            fix=f"{COMMAND_VARIABLE} is a program that prints the assertion",
        )
    words = split_command(command, COMMAND_VARIABLE)
    return SamlProvider(
        role_arn,
        principal_arn,
        partial(_printed, words),
        context.sts,
        _duration(context.environ.get(DURATION_VARIABLE)),
    )


async def _printed(words: tuple[str, ...]) -> str:
    return (await ask_program(words)).decode("ascii", "replace")


def _duration(text: str | None) -> int:
    if not text:
        return DEFAULT_DURATION
    if not text.isdecimal():
        raise UsageError(f"{DURATION_VARIABLE} is {text!r}", fix="Write it in seconds: 3600")
    return int(text)
