"""``s3engine credentials``: show the credentials of a run, or give them to other tools.

What lives here: five commands and what they print. What must not: what a child sees and how it
is run (``cli/child_environment.py``, ``cli/child.py``), or the protocol of ``serve``
(``credentials/server.py``).
"""

from __future__ import annotations

import json
import os
import shlex
import signal
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from engine.cli.lent_files import settings_file, token_file
from engine.cli.options import engine_options, output_options
from engine.cli.output import print_error, print_json
from engine.cli.session import Session
from engine.redact import mask_key_id, redact

if TYPE_CHECKING:
    from engine.types import Credentials

# Sessions of those who cannot renew them: the longest that every role and chain allows. botocore
# asks a credential_process again at every request in the last 15 minutes, so 900 s would be an
# AssumeRole a request.
ONE_HOUR = 3600

# What SDKs look at before they look at a container's credentials.
_WINNERS = (
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AWS_PROFILE",
    "AWS_DEFAULT_PROFILE",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
)

_verbose = click.option("-v", "--verbose", count=True, help="More of the log; up to -vvv.")


@click.group()
def command() -> None:
    """Show the credentials of a run, or give them to other tools."""


@command.command(epilog="\b\nExample:\n  s3engine credentials show --role-arn ARN --source ec2\n")
@engine_options
@output_options
def show(**flags: Any) -> None:
    """Get credentials as the other commands would, and print them masked."""
    session = Session(flags)

    async def work() -> None:
        engine = session.engine
        credentials = await engine.lease.ready()
        chain = [redact(what) for what, _ in engine.statistics().chain]
        why = [redact(line) for line in engine.sources_considered]
        left = engine.lease.remaining(credentials)
        ends = _utc(credentials)
        if flags["as_json"]:
            print_json(
                {
                    "v": 1,
                    "event": "credentials",
                    "access_key_id": mask_key_id(credentials.access_key_id),
                    "expires_at": ends,
                    "lifetime": credentials.lifetime,
                    "chain": chain,
                    "considered": why,
                }
            )
            return
        rows = [("key", mask_key_id(credentials.access_key_id)), ("of", chain[-1])]
        rows += [("by", what) for what in reversed(chain[:-1])]
        rows += [("source", line) for line in why]
        rows += [("ends", f"{ends}, in {left:.0f} s" if ends else "never")]
        for name, text in rows:
            click.echo(f"{name:<8} {text}")

    session.run(work)


@command.command(
    epilog="\b\nIn ~/.aws/config:\n"
    "  [profile loader]\n"
    "  credential_process = s3engine credentials process --role-arn ARN --source ec2\n"
)
@engine_options
@_verbose
@click.pass_context
def process(ctx: click.Context, /, **flags: Any) -> None:
    """Print credentials as a credential_process has to.

    A session is for 1 h where --session-duration says nothing else; whoever runs this asks again
    near its end. Many processes share one session by `serve` and `exec`.
    """
    credentials = _fetch(ctx, flags)
    document: dict[str, object] = {
        "Version": 1,
        "AccessKeyId": credentials.access_key_id,
        "SecretAccessKey": credentials.secret_access_key,
    }
    if credentials.session_token:
        document["SessionToken"] = credentials.session_token
    ends = _utc(credentials)
    if ends:
        document["Expiration"] = ends
    print_json(document)


@command.command(epilog='\b\nExample:\n  eval "$(s3engine credentials env --role-arn ARN)"\n')
@engine_options
@click.option(
    "--format",
    "style",
    type=click.Choice(["env", "json", "powershell"]),
    default="env",
    show_default=True,
    help="Lines for a POSIX shell or for PowerShell, or one JSON object.",
)
@_verbose
@click.pass_context
def env(ctx: click.Context, /, style: str, **flags: Any) -> None:
    """Print credentials as variables of a shell.

    Nothing renews them: a session is for 1 h where --session-duration says nothing else. `exec`
    and `serve` keep renewing.
    """
    credentials = _fetch(ctx, flags)
    ends = _utc(credentials)
    variables: dict[str, str | None] = {
        "AWS_ACCESS_KEY_ID": credentials.access_key_id,
        "AWS_SECRET_ACCESS_KEY": credentials.secret_access_key,
        # One that is there from before would not fit the new key.
        "AWS_SESSION_TOKEN": credentials.session_token,
        "AWS_CREDENTIAL_EXPIRATION": ends,
    }
    click.echo(_STYLES[style](variables), nl=False)
    if ends:
        click.echo(f"these end at {ends}; nothing renews them", err=True)


@command.command(
    epilog="\b\nExample:\n"
    "  (umask 077; s3engine credentials serve --role-arn ARN > serve.env) &\n"
    "  until [ -s serve.env ]; do sleep 0.1; done\n"
    "  . ./serve.env; aws s3 ls\n"
)
@engine_options
@click.option("--port", type=click.IntRange(0, 65535), default=0, help="Default: a free one.")
@click.option(
    "--token-file",
    "to_file",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write the token there (0600), and not to stdout.",
)
@_verbose
def serve(port: int, to_file: Path | None, **flags: Any) -> None:
    """Serve credentials to all SDKs and tools of this host until a signal comes.

    Prints the two variables that they need. Everybody who has the token gets the credentials,
    renewed, and all of them together cost the STS calls of one.
    """
    session = Session({**flags, "quiet": True})

    async def work() -> None:
        from engine.credentials.server import TOKEN_VARIABLE, CredentialServer

        await session.engine.lease.ready()  # a role that cannot be assumed is said now
        server = CredentialServer(session.engine.lease, port=port, role_arn=flags["role_arn"])
        async with server:
            # Unset: keys and profiles that are there from before would win in every SDK.
            variables: dict[str, str | None] = dict.fromkeys(_WINNERS)
            variables |= server.environment()
            with token_file(to_file, server.token) as path:
                if path is not None:
                    # Unset: one that is there from before must not be taken for this one's.
                    variables |= {TOKEN_VARIABLE: None, f"{TOKEN_VARIABLE}_FILE": str(path)}
                click.echo(_as_shell(variables), nl=False)
                await _signalled()

    session.run(work)


@command.command(
    "exec",
    context_settings={"allow_interspersed_args": False},
    epilog="\b\nExample:\n  s3engine credentials exec --role-arn ARN -- aws s3 ls\n",
)
@engine_options
@_verbose
@click.argument("line", nargs=-1, required=True, type=click.UNPROCESSED, metavar="COMMAND [ARGS]")
@click.pass_context
def exec_(ctx: click.Context, /, line: tuple[str, ...], **flags: Any) -> None:
    """Run a command under credentials that are renewed for as long as it runs.

    No other credentials are left in its environment, files included. Its exit code is ours:
    127 where it does not exist, 128 + n where signal n ended it.
    """
    from engine.cli.child import Child, CommandMissing

    with Child(line) as child, settings_file(flags["profile"]) as config_file:
        session = Session({**flags, "quiet": True})

        async def work() -> int:
            from engine.cli.child_environment import child_environment
            from engine.credentials.server import CredentialServer

            lease = session.engine.lease
            await lease.ready()  # a role that cannot be assumed starts nothing
            async with CredentialServer(lease, role_arn=flags["role_arn"]) as server:
                given = server.environment()
                names = ("region", "endpoint_url", "sts_endpoint_url", "ca_bundle")
                settings = {name: flags[name] for name in names}
                return await child.run(
                    child_environment(os.environ, given, config_file=config_file, **settings)
                )

        try:
            status = session.run(work)
        except CommandMissing as error:
            print_error(error)
            status = error.status
    ctx.exit(status)


def _fetch(ctx: click.Context, flags: dict[str, Any]) -> Credentials:
    """One set, for an hour where the user does not say how long."""
    from click.core import ParameterSource

    if ctx.get_parameter_source("session_duration") is ParameterSource.DEFAULT:
        flags["session_duration"] = ONE_HOUR
    session = Session({**flags, "quiet": True})

    async def work() -> Credentials:
        return await session.engine.lease.ready()

    return session.run(work)


def _utc(credentials: Credentials) -> str | None:
    from datetime import UTC

    end = credentials.expires_at
    return f"{end.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}" if end else None


def _as_shell(variables: Mapping[str, str | None]) -> str:
    return "".join(
        f"unset {name}\n" if text is None else f"export {name}={shlex.quote(text)}\n"
        for name, text in variables.items()
    )


def _as_powershell(variables: Mapping[str, str | None]) -> str:
    lines = []
    for name, text in variables.items():
        quoted = "$null" if text is None else "'" + text.replace("'", "''") + "'"
        lines.append(f"$Env:{name} = {quoted}\n")
    return "".join(lines)


def _as_json(variables: Mapping[str, str | None]) -> str:
    return json.dumps({name: text for name, text in variables.items() if text is not None}) + "\n"


_STYLES: dict[str, Callable[[Mapping[str, str | None]], str]] = {
    "env": _as_shell,
    "json": _as_json,
    "powershell": _as_powershell,
}


async def _signalled() -> None:
    """Until somebody wants us to end; what we were told to ignore (nohup) does not count."""
    import anyio

    wanted = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    numbers = [number for number in wanted if signal.getsignal(number) is not signal.SIG_IGN]
    with anyio.open_signal_receiver(*numbers) as received:
        async for _ in received:
            return
