"""What a profile says about credentials: which source, and which roles to assume with it.

The rules are botocore's (``AssumeRoleProvider``, ``ProfileProviderBuilder``), so that a profile
means here what it means to the AWS CLI. What must not live here: reading the files
(``engine.profiles``), getting keys (``providers/``), the order of the default chain (``sources``).
"""

from __future__ import annotations

from collections.abc import Callable

from engine.credentials.context import SourceContext, SourcePlan
from engine.credentials.providers import container, imds, process, profile, sso, static
from engine.credentials.providers import web_identity as web
from engine.credentials.role import DEFAULT_DURATION, RoleSpec
from engine.errors import SourceMissing, UsageError
from engine.profiles import Profile, ProfileFiles
from engine.protocols import CredentialProvider
from engine.settings import SharedSettings

# credential_source of a profile, in AWS's spelling.
_CREDENTIAL_SOURCES: dict[str, Callable[[SourceContext], CredentialProvider]] = {
    "Environment": static.from_environment,
    "Ec2InstanceMetadata": imds.from_environment,
    "EcsContainer": container.from_environment,
}
_KEYS = ("aws_access_key_id", "aws_secret_access_key")


class ProfilePlanner:
    """Plans from the profile in use.

    Attributes:
        why: A line for each place that was looked at.

    Raises:
        UsageError: A file cannot be read, or does not have the profile that was named.
    """

    def __init__(self, context: SourceContext) -> None:
        self._context = context
        self._files = ProfileFiles(context.environ)
        found = self._files.read()
        chosen = found.chosen(context.environ, context.profile)
        self._shared = SharedSettings(context.environ, found, chosen)
        self.why: list[str] = []

    @property
    def profile(self) -> Profile:
        """The profile in use."""
        return self._shared.profile

    def assumed_role(self) -> SourcePlan | None:
        """The roles of the profile and what they start from; None where it has no ``role_arn``.

        Raises:
            UsageError: The profiles name each other in a circle, or one that is not there, or
                a value is wrong.
            SourceMissing: What they start from is not set up.
        """
        current = self.profile
        if not _wants_role(current):
            self.why.append(f"role: profile {current.name} has no role_arn to assume")
            return None
        roles: list[RoleSpec] = []
        visited = [current.name]
        while True:
            roles.insert(0, _role(current))
            source = current.text("credential_source")
            before = current.text("source_profile")
            if (source is None) == (before is None):
                raise UsageError(
                    f"profile {current.name} has a role_arn and "
                    f"{'neither' if source is None else 'both'} source_profile "
                    f"{'nor' if source is None else 'and'} credential_source",
                    fix="Give one of them: it says whose credentials assume the role",
                )
            if before is None:
                assert source is not None
                return self._plan(self._credential_source(current, source), roles)
            self.why.append(
                f"role: profile {current.name} assumes {roles[0].arn} from profile {before}"
            )
            current = self._before(current, before, visited)
            visited.append(current.name)
            if _has_keys(current) or not _wants_role(current):
                return self._plan(self._source_profile(current), roles)

    def own(self, name: str, *, use_environ: bool) -> CredentialProvider | None:
        """The credentials of a profile itself, without a role: botocore's order of the places.

        Args:
            use_environ: Whether the environment may name the web identity.
        """
        for place, make, missing in self._places(name, use_environ):
            provider = make()
            if provider is not None:
                self.why.append(f"{place}: {provider.describe()}")
                return provider
            self.why.append(f"{place}: {missing}")
        return None

    def _places(
        self, name: str, use_environ: bool
    ) -> tuple[tuple[str, Callable[[], CredentialProvider | None], str], ...]:
        """Each place, what makes a source of it, and what it lacks where that makes none."""
        context, found = self._context, self._shared.profiles
        one = found.profiles.get(name, Profile(name))
        where = "the environment and in profile" if use_environ else "profile"
        return (
            (
                "web-identity",
                lambda: web.from_profile(context, one, use_environ=use_environ),
                f"no token file is named in {where} {name}",
            ),
            (
                "sso",
                lambda: sso.from_profile(context, one, self._shared),
                f"profile {name} has no sso_account_id and sso_role_name",
            ),
            (
                "credentials file",
                lambda: profile.from_profile(context, self._files, found, name, "credentials"),
                f"no keys of profile {name} in {found.credentials_path}",
            ),
            (
                "process",
                lambda: process.from_profile(one),
                f"profile {name} has no credential_process",
            ),
            (
                "config file",
                lambda: profile.from_profile(context, self._files, found, name, "config"),
                f"no keys of profile {name} in {found.config_path}",
            ),
        )

    def _plan(self, provider: CredentialProvider, roles: list[RoleSpec]) -> SourcePlan:
        return SourcePlan(provider, tuple(roles), tuple(self.why))

    def _before(self, current: Profile, name: str, visited: list[str]) -> Profile:
        """The source profile. Raises UsageError where it is not there, or closes a circle."""
        found = self._shared.profiles.profiles.get(name)
        if found is None:
            raise UsageError(
                f"profile {current.name} names the source_profile {name!r}, which is not there",
                fix="Add it, or correct the name",
            )
        # A profile may be its own source: then its keys assume its role.
        if name in visited and not (name == current.name and _has_keys(found)):
            circle = " -> ".join([*visited[visited.index(name) :], name])
            raise UsageError(
                f"the source_profile settings go in a circle: {circle}",
                fix="One of them needs credentials of its own",
            )
        return found

    def _source_profile(self, source: Profile) -> CredentialProvider:
        provider = self.own(source.name, use_environ=False)
        if provider is None:
            raise UsageError(
                f"profile {source.name} is a source_profile and has no credentials",
                fix="Give it keys, credential_process, SSO, a web identity, or a role_arn",
            )
        return provider

    def _credential_source(self, current: Profile, source: str) -> CredentialProvider:
        make = _CREDENTIAL_SOURCES.get(source)
        if make is None:
            raise UsageError(
                f"profile {current.name} has an unknown credential_source: {source!r}",
                fix=f"AWS knows {', '.join(_CREDENTIAL_SOURCES)}",
            )
        provider = make(self._context)
        self.why.append(
            f"role: profile {current.name} assumes {current.text('role_arn')} "
            f"from {source}: {provider.describe()}"
        )
        return provider


def plan_profile(context: SourceContext) -> SourcePlan:
    """What ``--source profile`` is: the profile's role, else its own credentials.

    Raises:
        UsageError: Its settings cannot be followed.
        SourceMissing: It has no credentials.
    """
    planner = ProfilePlanner(context)
    plan = planner.assumed_role()
    if plan is not None:
        return plan
    provider = planner.own(planner.profile.name, use_environ=False)
    if provider is None:
        raise SourceMissing(
            f"profile {planner.profile.name} has no credentials",
            fix="Run aws configure, name another --profile, or use another --source",
            looked_at="; ".join(planner.why),
        )
    return SourcePlan(provider, why=tuple(planner.why))


def _wants_role(profile: Profile) -> bool:
    """A web identity is its own way to a role."""
    return "role_arn" in profile.settings and "web_identity_token_file" not in profile.settings


def _has_keys(profile: Profile) -> bool:
    return any(name in profile.settings for name in _KEYS)


def _role(profile: Profile) -> RoleSpec:
    """Raises UsageError for a value that STS would refuse, and for MFA."""
    if profile.text("mfa_serial") is not None:
        raise UsageError(
            f"profile {profile.name} wants an MFA code (mfa_serial). A code works once, so the "
            "session could not be renewed while the job runs",
            fix="Get a session with the code (aws sts get-session-token --serial-number ... "
            "--token-code ...), put it into a profile of its own, and make that the source_profile "
            "of one without mfa_serial",
        )
    duration = profile.text("duration_seconds") or str(DEFAULT_DURATION)
    if not duration.isdecimal():
        raise UsageError(
            f"duration_seconds of profile {profile.name} is {duration!r}", fix="Write it as 3600"
        )
    return RoleSpec(
        profile.text("role_arn") or "",
        external_id=profile.text("external_id"),
        session_name=profile.text("role_session_name"),
        duration=int(duration),
    )
