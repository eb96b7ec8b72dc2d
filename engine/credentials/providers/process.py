"""Keys that another program prints: ``credential_process`` of a profile.

Refresh rule: the program is run again at every renewal. Keys without an Expiration are static and
are not asked for again.

Rules: https://docs.aws.amazon.com/sdkref/latest/guide/feature-process-credentials.html
"""

from __future__ import annotations

from os.path import basename
from typing import final

from engine.credentials.child import MAX_SECONDS, ask_program, split_command
from engine.credentials.context import SourceContext, check_whole
from engine.credentials.documents import read_keys
from engine.errors import CredentialsError, SourceExpired, SourceMissing
from engine.profiles import Profile
from engine.protocols import CredentialProvider
from engine.settings import SharedSettings
from engine.types import Credentials

# The one version of the document that there is.
VERSION = 1


@final
class ProcessProvider(CredentialProvider):
    """Runs ``command`` without a shell and reads its stdout.

    Whether it gives a role's keys is not known before it has run; it nearly always does, so the
    next role counts as chained, which STS never refuses.

    Args:
        command: As one line; split by the rules of a POSIX shell.
        origin: Where the command stands, for people.
        seconds: Until the program is killed.

    Raises:
        UsageError: The command cannot be split.
    """

    def __init__(self, command: str, origin: str, *, seconds: float = MAX_SECONDS) -> None:
        self._words = split_command(command, origin)
        self._origin = origin
        self._seconds = seconds

    async def fetch(self) -> Credentials:
        what = f"credential_process {basename(self._words[0])}"
        try:
            document = read_keys(await ask_program(self._words, seconds=self._seconds), what)
        except CredentialsError as error:
            raise CredentialsError(
                f"credential_process of {self._origin}: {error.headline}",
                fix=error.fix or "Run the command by hand to see what it says",
                **error.facts,
            ) from None
        if document.version != VERSION or isinstance(document.version, bool):
            raise CredentialsError(
                f"{what} answers in another version than {VERSION}",
                fix='Its document must hold "Version": 1',
            )
        credentials = document.credentials(what)
        check_whole(credentials)
        lifetime = credentials.lifetime
        if lifetime is not None and lifetime <= 0:
            raise SourceExpired(
                f"{what} gave keys that have expired",
                fix="Renew what it takes them from, and check the clock of this machine",
            )
        return credentials

    def describe(self) -> str:
        return f"credential_process {basename(self._words[0])} ({self._origin})"


def from_profile(profile: Profile) -> ProcessProvider | None:
    """The program of a profile, or None where it names none."""
    command = profile.text("credential_process")
    return ProcessProvider(command, f"profile {profile.name}") if command else None


def from_environment(context: SourceContext) -> ProcessProvider:
    """The factory of ``process``. Raises SourceMissing where the profile names no program."""
    profile = SharedSettings.read(context.environ, context.profile).profile
    provider = from_profile(profile)
    if provider is None:
        raise SourceMissing(
            f"profile {profile.name} has no credential_process",
            fix="Add it to the profile, or use another --source",
        )
    return provider
