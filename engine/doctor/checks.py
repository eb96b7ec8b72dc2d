"""The checks that ask STS: who calls, may it assume the role, and with what exactly.

STS gives one answer, AccessDenied, for every reason. What it does not say is found out by asking
again with one thing changed: without the tags, with a shorter session, without the external id.
What must not live here: the order of the checks (``examination.py``), S3 (``probe.py``).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from engine.credentials.role import MAX_CHAINED_DURATION, RoleSpec
from engine.doctor.cases import Situation, principal_of, who_is
from engine.doctor.findings import (
    OTHER,
    Finding,
    Status,
    facts_of,
    failed,
    failed_with,
    ok,
    skipped,
    warning,
)
from engine.doctor.policies import external_id_condition
from engine.doctor.reach import Answer
from engine.doctor.regions import StsMode, is_opt_in, sts_mode, sts_url
from engine.doctor.tools import Tools
from engine.errors import (
    AssumeRoleDenied,
    CredentialsError,
    EngineError,
    RoleInvalid,
    SourceUnavailable,
)
from engine.redact import mask_external_id
from engine.types import CallerIdentity, Credentials

# Seconds between our clock and AWS's. STS refuses from 5 minutes on, S3 from 15; a clock that is
# one off is not kept by anybody, and gets there.
CLOCK_WARNING = 60.0
_SKEWED = "RequestTimeTooSkewed"
# What the console offers as a role's longest session, below the 12 h that are the most.
DURATION_STEPS = (28_800, 14_400, 7_200, 3_600)


@dataclass(frozen=True, slots=True)
class Caller:
    """Whoever assumes the next role.

    Attributes:
        identity: None where STS does not say.
        is_role: Whether STS caps what it assumes at an hour.
        assumed: ARN of the role that it is a session of, where we assumed it ourselves.
        origin: Where its credentials come from, masked.
    """

    credentials: Credentials
    identity: CallerIdentity | None
    is_role: bool
    origin: str = ""
    assumed: str | None = None

    @property
    def name(self) -> str:
        """``user etl``."""
        return "the caller" if self.identity is None else who_is(self.identity)

    @property
    def principal(self) -> str | None:
        """What a trust policy has to name."""
        if self.identity is None:
            return self.assumed
        return principal_of(self.identity, self.assumed)

    @property
    def account(self) -> str:
        return self.identity.account if self.identity else ""


@dataclass(frozen=True, slots=True)
class Assumed:
    """What came of an AssumeRole.

    Attributes:
        session: None where there is none to go on with.
        denied: Whether the policies of one side or the other are the reason.
    """

    session: Credentials | None
    findings: tuple[Finding, ...]
    denied: bool = False


def check_endpoint(tools: Tools, answer: Answer | EngineError) -> Finding:
    """Whether STS is there, and is the one that AWS advises."""
    endpoints = tools.endpoints
    region, url, mode = endpoints.region, sts_url(endpoints), sts_mode(endpoints)
    if isinstance(answer, EngineError):
        return failed(
            "endpoint",
            f"STS at {url}: {answer.headline}",
            answer.fix or "Check the network, the proxy and --sts-endpoint-url",
            exit_code=OTHER,
        )
    if mode is StsMode.REGIONAL:
        return ok("endpoint", f"STS of {region} ({url})")
    if mode is StsMode.CUSTOM:
        return ok("endpoint", f"STS at {url}, signed for {endpoints.sts_region or region}")
    if is_opt_in(region):
        return warning(
            "endpoint",
            f"the global STS, and {region} is an opt-in region: version 1 tokens, which the "
            "global STS gives by default, are not valid there",
            f"Drop --sts-endpoint-url global: the STS of {region} gives version 2 tokens",
            "or let the account's owner have it give version 2 tokens (IAM, account settings)",
        )
    return warning(
        "endpoint", f"the global STS ({url})", f"AWS advises the region's own, sts.{region}"
    )


def check_clock(answer: Answer | EngineError, source: Finding) -> Finding:
    """Whether our clock is STS's, by the Date of its answer.

    The engine signs by the server's time, so a clock that is off is no failure by itself.

    Args:
        source: The finding of the first signed call: whether AWS refused it for the time.
    """
    if isinstance(answer, EngineError):
        return skipped("clock", "STS did not answer")
    if answer.offset is None:
        return skipped("clock", "the answer has no Date")
    off = abs(answer.offset)
    if off < 2.0:  # Date has steps of a second
        return ok("clock", "less than 2 s off")
    text = f"{off:.0f} s {'behind' if answer.offset > 0 else 'ahead of'} the server's"
    if off <= CLOCK_WARNING:
        return ok("clock", text)
    fix = "Set the clock of this machine, and let NTP keep it (chronyd, systemd-timesyncd)"
    if source.status is Status.FAILED and source.aws.startswith(_SKEWED):
        return failed("clock", text, fix, detail=("AWS refuses signatures of it",), exit_code=OTHER)
    goes_on = (
        "The engine corrects it by the server's Date. Other tools will fail: STS refuses requests "
        "that are more than 5 min off, S3 more than 15 min"
    )
    return warning("clock", text, fix, detail=(goes_on,))


async def check_source(tools: Tools) -> tuple[Caller | None, Finding]:
    """Where the credentials come from and whose they are. No caller where there are none; root is
    one, and its finding a failure."""
    provider = tools.plan.provider
    why = tuple(f"looked at {line}" for line in tools.plan.why)
    try:
        credentials = await tools.call("the source", provider.fetch)
    except EngineError as error:
        looked = str(error.facts.get("looked_at", ""))
        return None, failed_with("source", error, *(looked.split("; ") if looked else why))
    origin = provider.describe()
    caller = Caller(credentials, None, provider.is_role, origin)
    try:
        identity = await _identity(tools, credentials)
    except SourceUnavailable as error:
        detail = f"who that is is not checked: this STS does not say ({_said(error)})"
        return caller, ok("source", origin, detail)
    except EngineError as error:
        return None, failed_with("source", error, origin, *why)
    caller = replace(caller, identity=identity)
    if identity.is_root:
        return caller, failed(
            "source",
            f"root user of {identity.account}: {origin}",
            "Delete the root user's access keys. Make an IAM user or a role that may only call "
            "sts:AssumeRole on the role, and use its keys",
            detail=(
                "Root keys may do everything and cannot be limited; STS refuses roles to them",
            ),
        )
    return caller, ok("source", f"{who_is(identity)}, {identity.account}: {origin}")


async def check_assume(
    tools: Tools, caller: Caller, role: RoleSpec, situation: Situation
) -> Assumed:
    """Assume ``role`` as the engine would, and say how long a session may be."""
    duration = min(role.duration, MAX_CHAINED_DURATION) if caller.is_role else role.duration
    try:
        session = await _assume(tools, caller, role, duration)
    except AssumeRoleDenied as error:
        return await _denied(tools, caller, role, situation, duration, error)
    except RoleInvalid as error:
        return await _shorter(tools, caller, role, duration, error)
    except EngineError as error:
        return Assumed(None, (failed_with("assume", error),))
    return Assumed(session, (_assumed(role, session), _duration(role, duration, session)))


async def check_without_id(
    tools: Tools, caller: Caller, role: RoleSpec, situation: Situation
) -> tuple[Finding, Finding]:
    """The role must not be had without its external id, nor with another one.

    https://docs.aws.amazon.com/IAM/latest/UserGuide/id_roles_create_for-user_externalid.html
    """
    if role.token_code is not None:
        reason = "the MFA code works once, and was used"
        return skipped("without id", reason), skipped("wrong id", reason)
    bare = await _refused(tools, caller, replace(role, external_id=None))
    if isinstance(bare, EngineError):
        without = skipped("without id", bare.headline)
    elif bare:
        without = ok("without id", "refused, as it must be")
    else:
        return _deputy(role, situation), skipped("wrong id", "the role asks for none")
    invented = f"s3engine-doctor-{tools.random.getrandbits(64):016x}"
    other = await _refused(tools, caller, replace(role, external_id=invented))
    if isinstance(other, EngineError):
        return without, skipped("wrong id", other.headline)
    if other:
        return without, ok("wrong id", "refused, as it must be")
    return without, failed(
        "wrong id",
        f"role {role.role.name} takes any external id",
        f"In the trust policy of role {role.role.name} (account {role.role.account}) compare it "
        "by StringEquals with the one value, not by StringLike, Null or ...IfExists",
        detail=("Whoever may assume it for one customer may do so for all (confused deputy)",),
    )


async def check_session(
    tools: Tools, session: Credentials, role: RoleSpec
) -> tuple[CallerIdentity | None, Finding]:
    """Whose session it is that STS gave."""
    try:
        identity = await _identity(tools, session)
    except SourceUnavailable as error:
        return None, skipped("session", f"this STS does not say whose it is ({_said(error)})")
    except EngineError as error:
        return None, failed_with("session", error)
    shown = f"{who_is(identity)} in {identity.account}, named {identity.arn.rpartition('/')[2]}"
    if (identity.account, who_is(identity)) != (role.role.account, f"role {role.role.name}"):
        return identity, warning(
            "session", f"{shown}: not the role that was asked for ({role.arn})"
        )
    return identity, ok("session", shown)


# ---- asking --------------------------------------------------------------------------------


async def _identity(tools: Tools, credentials: Credentials) -> CallerIdentity:
    return await tools.call("GetCallerIdentity", lambda: tools.sts.get_caller_identity(credentials))


async def _assume(tools: Tools, caller: Caller, role: RoleSpec, duration: int) -> Credentials:
    parameters = role.parameters(tools.session_name, duration)
    return await tools.call(
        "AssumeRole", lambda: tools.sts.assume_role(caller.credentials, parameters)
    )


async def _refused(tools: Tools, caller: Caller, role: RoleSpec) -> bool | EngineError:
    """Whether STS denies ``role``; the error where it says anything else."""
    try:
        await _assume(tools, caller, role, min(role.duration, MAX_CHAINED_DURATION))
    except AssumeRoleDenied:
        return True
    except EngineError as error:
        return error
    return False


async def _shorter(
    tools: Tools, caller: Caller, role: RoleSpec, duration: int, error: RoleInvalid
) -> Assumed:
    """STS called the request invalid. Where a shorter session is to be had, it was the duration."""
    longest = duration
    for seconds in DURATION_STEPS if role.token_code is None else ():
        if seconds >= duration:
            continue
        try:
            session = await _assume(tools, caller, role, seconds)
        except RoleInvalid:
            longest = seconds
            continue
        except CredentialsError:
            break
        return Assumed(session, (_assumed(role, session), _too_long(role, seconds, longest)))
    return Assumed(None, (failed_with("assume", error),))


async def _denied(
    tools: Tools,
    caller: Caller,
    role: RoleSpec,
    situation: Situation,
    duration: int,
    error: AssumeRoleDenied,
) -> Assumed:
    """STS said no. Ask again without what needs a permission of its own."""
    plainer = (
        ("tags", "sts:TagSession", bool(role.tags), replace(role, tags={}, transitive_tags=())),
        (
            "identity",
            "sts:SetSourceIdentity",
            role.source_identity is not None,
            replace(role, source_identity=None),
        ),
    )
    for check, action, used, without in plainer:
        if not used or role.token_code is not None:
            continue
        try:
            session = await _assume(tools, caller, without, duration)
        except CredentialsError:
            continue
        what = "session tags" if check == "tags" else "a source identity"
        refused = failed(
            check,
            f"the role can be assumed, but not with {what}: {action} is missing",
            f"In the trust policy of role {role.role.name} (account {role.role.account}): allow "
            f"{action} next to sts:AssumeRole",
            f"In the identity policy of {_owner(caller)}: the same, on {role.arn}",
            detail=facts_of(error),
            missing=(action,),
        )
        return Assumed(session, (_assumed(without, session), refused), denied=True)
    return Assumed(None, (_not_allowed(caller, role, situation, error),), denied=True)


# ---- saying --------------------------------------------------------------------------------


def _assumed(role: RoleSpec, session: Credentials) -> Finding:
    arn, lifetime = role.role, session.lifetime
    length = "" if lifetime is None else f", session {duration_text(lifetime)}"
    shown = mask_external_id(role.external_id)
    sent = f"with external id {shown}" if role.external_id else "without external id"
    return ok("assume", f"role {arn.name} in {arn.account}{length}, {sent}")


def _duration(role: RoleSpec, duration: int, session: Credentials) -> Finding:
    asked, lifetime = duration_text(role.duration), session.lifetime
    if duration < role.duration:
        return warning(
            "duration",
            f"{asked} asked; a role that assumes a role gets at most 1 h. Using 1 h, renewed "
            "while working",
            "Drop --session-duration, or let the first hop be one that may be longer",
        )
    if lifetime is not None and lifetime < duration - 1:
        return warning("duration", f"{asked} asked, {duration_text(lifetime)} given")
    return ok("duration", f"{asked}, as asked; renewed while working")


def _too_long(role: RoleSpec, allowed: int, refused: int) -> Finding:
    name, asked = role.role.name, duration_text(role.duration)
    return failed(
        "duration",
        f"role {name} does not allow a {asked} session (MaxSessionDuration)",
        "Drop --session-duration: sessions are renewed while the job runs, which may take days",
        f"or let the role's owner (account {role.role.account}) raise it: aws iam update-role "
        f"--role-name {name} --max-session-duration {role.duration}",
        detail=(f"asked: {role.duration} s; allowed: {allowed} s or more, under {refused} s",),
    )


def _not_allowed(
    caller: Caller, role: RoleSpec, situation: Situation, error: AssumeRoleDenied
) -> Finding:
    """Which policies have a say, and what each must hold."""
    arn, principal = role.role, caller.principal
    shown = principal or "the caller (its ARN is not known)"
    sent = mask_external_id(role.external_id) if role.external_id else "none"
    trust = f"In the trust policy of role {arn.name} (account {arn.account}): Principal {shown}"
    identity = f"In the identity policy of {_owner(caller)}: sts:AssumeRole on {role.arn}"
    fixes = [trust]
    if role.external_id:
        fixes.append(f"There too: sts:ExternalId must equal what is sent here ({sent})")
    else:
        fixes.append("There too: where it wants an external id, give it by --external-id VALUE")
    if situation.same_account:
        identity += " (not needed where the trust policy names the caller itself)"
    fixes.append(identity)
    fixes.append(
        f"In --role-arn: account {arn.account} and name {arn.name!r}, case-sensitive. STS says the "
        "same of a role that does not exist"
    )
    mfa = "shown here" if role.serial_number else "--mfa-serial"
    fixes.append(
        f"In any of these policies: other conditions, such as MFA ({mfa}), source address or VPC, "
        "tags, organisation"
    )
    return failed(
        "assume",
        f"not allowed to assume {role.arn}, external id sent: {sent}",
        *(f"{number}. {fix}" for number, fix in enumerate(fixes, 1)),
        detail=(*facts_of(error), "STS does not say which of these is the reason:"),
    )


def _deputy(role: RoleSpec, situation: Situation) -> Finding:
    """The role is to be had without its external id."""
    condition = str(external_id_condition()).replace("'", '"')
    where = f"In the trust policy of role {role.role.name} (account {role.role.account}): "
    fix = f'{where}"Condition": {condition}'
    text = "the role can ALSO be assumed without the external id"
    if situation.same_account:
        return warning("without id", text, fix)
    return failed(
        "without id",
        text,
        fix,
        detail=("Whoever the caller works for can have it used for them (confused deputy)",),
    )


def duration_text(seconds: float) -> str:
    """``12 h``, ``1 h 30 min``, ``15 min``, ``45 s``."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    hours, minutes = divmod(round(whole / 60), 60)
    parts = ([f"{hours} h"] if hours else []) + ([f"{minutes} min"] if minutes else [])
    return " ".join(parts)


def _owner(caller: Caller) -> str:
    return f"{caller.name} (account {caller.account})" if caller.account else caller.name


def _said(error: EngineError) -> str:
    return str(error.facts.get("aws") or error.headline)
