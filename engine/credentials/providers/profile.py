"""Keys that stand in a profile of the credentials file or of the config file.

Refresh rule: the file is looked at every 5 s and read again when it has changed, so that keys
which another tool writes there (aws configure, saml2aws, a rotation) are found while a job runs;
and at once when AWS calls them expired or unknown. That costs a stat, and no call of STS: what was
assumed with the old keys stays.
"""

from __future__ import annotations

from typing import Literal, final

from engine.credentials.context import SourceContext, check_whole
from engine.errors import SourceMissing, UsageError
from engine.profiles import Profile, ProfileFiles, Profiles, Section
from engine.protocols import CredentialProvider
from engine.redact import mask_key_id
from engine.threads import ThreadDoor
from engine.types import Credentials

# Seconds between two looks at the files.
RECHECK = 5.0

KeyFile = Literal["credentials", "config"]


@final
class ProfileKeysProvider(CredentialProvider):
    """Keys of ``name`` in one of the two files.

    Args:
        found: What the files held a moment ago.

    Raises:
        SourceMissing: The profile has no keys there.
        UsageError: Half a pair of keys, or a temporary key without its token.
    """

    recheck = RECHECK

    def __init__(
        self, files: ProfileFiles, found: Profiles, name: str, file: KeyFile, door: ThreadDoor
    ) -> None:
        self._files = files
        self._name = name
        self._file: KeyFile = file
        self._door = door
        self._credentials = self._keys(found)
        self._path = _path(found, file)
        self.is_role = self._credentials.session_token is not None

    async def fetch(self) -> Credentials:
        self._credentials = self._keys(await self._door.run(self._files.read))
        return self._credentials

    def _keys(self, found: Profiles) -> Credentials:
        keys = keys_of(found.profiles.get(self._name, Profile(self._name)), self._file)
        if keys is None:
            raise SourceMissing(
                f"profile {self._name} has no aws_access_key_id in {_path(found, self._file)}",
                fix="Run aws configure, or use another profile or --source",
            )
        return keys

    def describe(self) -> str:
        key = mask_key_id(self._credentials.access_key_id)
        return f"key {key} (profile {self._name}, {self._path})"


def keys_of(profile: Profile, file: KeyFile) -> Credentials | None:
    """The keys of a profile in one file; None where it names none there.

    Raises:
        UsageError: A key without its secret, or a temporary key without its token.
    """
    section: Section = profile.in_credentials if file == "credentials" else profile.in_config
    key, secret = section.text("aws_access_key_id"), section.text("aws_secret_access_key")
    if key is None:
        return None
    if secret is None:
        raise UsageError(
            f"profile {profile.name} has aws_access_key_id without aws_secret_access_key in the "
            f"{file} file",
            fix="Both stand in the same file",
        )
    token = section.text("aws_session_token") or section.text("aws_security_token")
    credentials = Credentials(key, secret, token)
    check_whole(credentials)
    return credentials


def from_profile(
    context: SourceContext, files: ProfileFiles, found: Profiles, name: str, file: KeyFile
) -> ProfileKeysProvider | None:
    """The keys of a profile in one file, or None where it has none there."""
    if keys_of(found.profiles.get(name, Profile(name)), file) is None:
        return None
    return ProfileKeysProvider(files, found, name, file, context.door)


def _path(found: Profiles, file: KeyFile) -> str:
    return found.credentials_path if file == "credentials" else found.config_path
