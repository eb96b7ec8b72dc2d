"""The examination: the checks in the order of the screen.

What must not live here: how a check asks (``checks.py``, ``probe.py``), or what is printed.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from engine.credentials import RoleSpec
from engine.doctor.cases import Case, Situation, which_case
from engine.doctor.checks import (
    Caller,
    check_assume,
    check_clock,
    check_endpoint,
    check_session,
    check_source,
    check_without_id,
)
from engine.doctor.findings import CaseFound, Finding, PolicyToAdd, Status, Told, Verdict, skipped
from engine.doctor.policies import (
    KEEP_CONDITIONS,
    UNKNOWN_CALLER,
    caller_policy,
    transfer_policy,
    trust_policy,
)
from engine.doctor.probe import probe
from engine.doctor.reach import Answer
from engine.doctor.read_probe import read_probe
from engine.doctor.regions import partition_of
from engine.doctor.tools import NoSource, Tools
from engine.errors import ConnectionFailed, EngineError, ProtocolError
from engine.types import Credentials, S3Url


class Probe(enum.Enum):
    """What may be done to the bucket: nothing; list and read; or write a tiny object of our own,
    too, and delete it again."""

    NOTHING = "nothing"
    READ = "read"
    WRITE = "write"


@dataclass(frozen=True, slots=True)
class Question:
    """What is to be examined.

    Attributes:
        role: The role to assume, and those before it; None for the source itself.
        url: The bucket and prefix that are worked below; None leaves S3 out.
        probe: What may be done there.
        emit_policies: Tell the documents whatever the checks say.
    """

    role: RoleSpec | None = None
    url: S3Url | None = None
    probe: Probe = Probe.WRITE
    emit_policies: bool = False


async def examine(question: Question, tools: Tools, verdict: Verdict) -> None:
    """Run all checks; each is told to ``verdict`` when it is done.

    Raises:
        UsageError: A setting that no call can be made with.
    """
    await _Examination(question, tools, verdict).run()


@dataclass(slots=True)
class _Examination:
    question: Question
    tools: Tools
    verdict: Verdict
    documents: list[PolicyToAdd] = field(default_factory=list)

    async def run(self) -> None:
        hops = (*self.tools.plan.roles, *(self.question.role.hops() if self.question.role else ()))
        answer = await self._reach()
        caller, source = await self._source(answer)
        first = self._situation(caller, hops[0] if hops else None, source)
        self._tell_case(first, 1, hops, caller)
        self._tell(source)
        self._tell(check_endpoint(self.tools, answer))
        self._tell(check_clock(answer, source))
        if caller is None or source.status is Status.FAILED:
            last = None
            self._tell(skipped("assume", "no caller to do it"))
        else:
            last = await self._assume_all(caller, hops, first)
        await self._bucket(last.credentials if last else None, hops)
        for document in self.documents:
            self._tell(document)

    # ---- the steps ---------------------------------------------------------------------------

    async def _reach(self) -> Answer | EngineError:
        try:
            return await self.tools.reach_sts()
        except (ConnectionFailed, ProtocolError) as error:
            return error

    async def _source(self, answer: Answer | EngineError) -> tuple[Caller | None, Finding]:
        if isinstance(answer, EngineError):
            return None, skipped("source", f"{self.tools.plan.provider.describe()}; no STS to ask")
        return await check_source(self.tools)

    async def _assume_all(
        self, caller: Caller, hops: Sequence[RoleSpec], situation: Situation
    ) -> Caller | None:
        """Through all roles; None where one of them is not to be had."""
        for number, role in enumerate(hops, 1):
            if number > 1:
                situation = self._situation(caller, role)
                self._tell_case(situation, number, hops, caller)
            following = await self._hop(caller, role, situation)
            if following is None:
                return None
            caller = following
        return caller

    async def _hop(self, caller: Caller, role: RoleSpec, situation: Situation) -> Caller | None:
        assumed = await check_assume(self.tools, caller, role, situation)
        for finding in assumed.findings:
            self._tell(finding)
        open_to_all = False
        if assumed.session is not None and role.external_id:
            findings = await check_without_id(self.tools, caller, role, situation)
            open_to_all = any(finding.status is Status.FAILED for finding in findings)
            for finding in findings:
                self._tell(finding)
        if assumed.denied or open_to_all or self.question.emit_policies:
            self._trust_policy(caller, role)
        if assumed.denied or self.question.emit_policies:
            self.documents.append(
                PolicyToAdd("identity", caller.account, caller.name, caller_policy(role))
            )
        if assumed.session is None:
            self._tell(skipped("session", "there is none"))
            return None
        identity, finding = await check_session(self.tools, assumed.session, role)
        self._tell(finding)
        return Caller(assumed.session, identity, is_role=True, assumed=role.arn)

    async def _bucket(self, session: Credentials | None, hops: Sequence[RoleSpec]) -> None:
        url = self.question.url
        if url is None:
            self._tell(skipped("bucket", "none was given (s3engine doctor s3://bucket/prefix/)"))
        elif session is None:
            self._tell(skipped("bucket", "no credentials to ask with"))
        elif self.question.probe is Probe.NOTHING:
            self._tell(skipped("bucket", "--no-probe"))
        else:
            try_it = read_probe if self.question.probe is Probe.READ else probe
            async with self.tools.planes(session) as (data, control):
                await try_it(self.tools, data, control, url, self._tell)
        if url is None:
            return
        s3_missing = any(action.startswith("s3:") for action in self.verdict.missing)
        if s3_missing or self.question.emit_policies:
            self._transfer_policy(url, hops)

    # ---- telling -----------------------------------------------------------------------------

    def _tell(self, told: Told) -> None:
        self.verdict.tell(told)

    def _tell_case(
        self, situation: Situation, number: int, hops: Sequence[RoleSpec], caller: Caller | None
    ) -> None:
        role = hops[number - 1].arn if hops else ""
        name = caller.principal or "" if caller else ""
        self._tell(CaseFound(situation, number, len(hops), name, role))

    def _situation(
        self, caller: Caller | None, role: RoleSpec | None, source: Finding | None = None
    ) -> Situation:
        """The case of a hop; ``source`` is what was found of the first one's credentials."""
        plan = self.tools.plan
        on_ec2 = source is not None and plan.provider.describe().startswith("instance role")
        if role is not None and caller is None and source is not None:
            guessed = on_ec2 and not self.tools.named
            if source.status is Status.FAILED and (guessed or isinstance(plan.provider, NoSource)):
                return Situation(Case.NO_SOURCE, title="no credentials to assume the role with")
        is_role = caller.is_role if caller else plan.provider.is_role
        arn = role.role if role else None
        identity = caller.identity if caller else None
        external_id = role.external_id if role else None
        situation = which_case(identity, arn, external_id, is_role, on_ec2=on_ec2)
        if situation.case is Case.UNKNOWN and caller is None:
            return replace(situation, title="IAM user -> role; who calls is not known")
        return situation

    def _trust_policy(self, caller: Caller, role: RoleSpec) -> None:
        arn, principal = role.role, caller.principal or UNKNOWN_CALLER
        document = trust_policy(principal, role, external_id=role.external_id is not None)
        self.documents.append(
            PolicyToAdd("trust", arn.account, f"role {arn.name}", document, KEEP_CONDITIONS)
        )

    def _transfer_policy(self, url: S3Url, hops: Sequence[RoleSpec]) -> None:
        role = hops[-1].role if hops else None
        attached = f"role {role.name}" if role else "the source of the credentials"
        partition = role.partition if role else partition_of(self.tools.endpoints.region)
        read_only = self.question.probe is Probe.READ
        document = transfer_policy(url, partition, read_only=read_only)
        self.documents.append(
            PolicyToAdd("permissions", role.account if role else "", attached, document)
        )
