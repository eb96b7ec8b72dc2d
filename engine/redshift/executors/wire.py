"""SQL over PostgreSQL's wire protocol, by asyncpg.

Rules of this file:
- asyncpg puts the whole SQL into an attribute of every server error, and pieces of it into some
  messages. No driver exception leaves this file, not even as a cause or context: ours is built
  from the SQLSTATE, the scrubbed message and the parsed DETAIL, and raised after the driver's was
  let go. The text of the statement is dropped from the frame before that.
- Results are text. Redshift's binary numeric means something else than PostgreSQL's, so every
  column of a query has to be cast to varchar by the caller.
- One transaction at a time, begun by the caller in SQL; Redshift has no savepoints.
What must not live here: the meaning of an error (``engine.redshift.errors``).
"""

from __future__ import annotations

import re
import socket
import ssl
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, TypeVar, final

import anyio

from engine.errors import DatabaseError, LoadRefused, LoginRefused
from engine.protocols import Executor
from engine.redact import redact
from engine.redshift.jdbc import JdbcUrl
from engine.threads import ThreadDoor

if TYPE_CHECKING:
    from asyncpg import Connection
    from asyncpg.exceptions import PostgresError

T = TypeVar("T")

CONNECT_SECONDS = 20.0
_CLOSE_SECONDS = 5.0
_MAX_STATEMENT = 300
_MAX_MESSAGE = 1000
# Load balancers drop silent connections after 350 s (NLB), and COPY is silent for hours.
_KEEPALIVE_SECONDS = 60

# Where ssl=false is allowed: the double, and tunnels that end on this machine.
_LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})
# A lost connection as the server words it: shutdown, crash, not ready; class 08 is the driver's.
_LOST_STATES = ("57P01", "57P02", "57P03")
_LOST_CLASS = "08"
_LOGIN_CLASS = "28"
_FATAL = ("FATAL", "PANIC")

# Lines of the DETAIL block that Redshift adds to errors of COPY.
_DETAIL = re.compile(r"(?m)^\s*(error|code|context|query):[ \t]*(.*?)[ \t]*$")
_LITERAL = re.compile(r"'((?:[^'\\]|''|\\.)*)'?", re.DOTALL)
_WORD = re.compile(r"[A-Za-z0-9/+=_.:-]{6,}")


@final
class WireExecutor(Executor):
    """One connection to Redshift, or to what speaks like it."""

    def __init__(self, connection: Connection[Any], where: str) -> None:
        self._connection = connection
        self._where = where
        self._statements = 0

    @classmethod
    async def connect(
        cls,
        url: JdbcUrl,
        *,
        user: str | None = None,
        password: str | None = None,
        timeout: float = CONNECT_SECONDS,
        threads: ThreadDoor | None = None,
    ) -> WireExecutor:
        """Connect, over TLS unless the URL says ssl=false.

        Args:
            user: Instead of the URL's own.
            password: Instead of the URL's own.
            timeout: Seconds for all of it.
            threads: Where certificates are read.

        Raises:
            LoadRefused: An IAM URL, or no user or password. Nothing was sent.
            DatabaseError: No connection; ``lost`` says that no server answered.
        """
        if url.iam:
            raise LoadRefused(
                f"{url} needs a password from IAM, which is not supported yet",
                fix="Use jdbc:redshift://host:5439/database with a user and a password",
            )
        if url.tls == "plain" and url.host not in _LOOPBACK:
            raise LoadRefused(
                f"{url} asks for a connection without TLS to another host",
                fix="Drop ssl=false: passwords and keys would go over the network in the clear",
            )
        user, password = user or url.user, password or url.password
        if not user or not password:
            # Without them the driver would look into ~/.pgpass and the environment.
            raise LoadRefused(
                f"no user or no password for {url}", fix="Give UID and PWD, or set them apart"
            )
        secure = await (threads or ThreadDoor()).run(_tls, url)
        found = await _attempt(
            _opener(url, secure, user, password, timeout), (password,), f"connect to {url}"
        )
        del password
        if isinstance(found, DatabaseError):
            raise found
        _keep_alive(found)
        return cls(found, str(url))

    async def execute(self, sql: str, public_sql: str | None = None) -> None:
        """Run one statement by the simple protocol.

        Args:
            sql: The statement as sent.
            public_sql: The statement as errors may name it; None names its first word only.

        Raises:
            DatabaseError: The server refused it, or was lost.
        """
        secrets = () if public_sql is None else _secrets(sql, public_sql)
        shown = " ".join((public_sql or sql[:40].split(maxsplit=1)[0]).split())[:_MAX_STATEMENT]
        found = await self._run(_call(self._connection.execute, sql), secrets, shown)
        del sql, secrets
        if isinstance(found, DatabaseError):
            raise found

    async def fetch_strings(self, sql: str) -> list[tuple[str | None, ...]]:
        """The rows of a query whose columns are all text. It must hold no secret.

        Raises:
            DatabaseError: The server refused it, was lost, or sent something else than text.
        """
        shown = " ".join(sql.split())[:_MAX_STATEMENT]
        found = await self._run(_call(self._connection.fetch, sql), (), shown)
        if isinstance(found, DatabaseError):
            raise found
        rows = [tuple(row) for row in found]
        if any(not (value is None or isinstance(value, str)) for row in rows for value in row):
            raise DatabaseError("a query answered with other types than text", statement=shown)
        return rows

    def backend_id(self) -> int:
        """The server process of this session, as ``pg_terminate_backend`` takes it."""
        return self._connection.get_server_pid()

    async def aclose(self) -> None:
        """End the session; an open transaction is rolled back by the server. Never fails."""
        with anyio.move_on_after(_CLOSE_SECONDS, shield=True):
            await _attempt(_call(self._connection.close), (), "close")
        self._connection.terminate()

    def __repr__(self) -> str:
        state = "closed" if self._connection.is_closed() else "open"
        return f"WireExecutor({self._where}, {state}, {self._statements} statements)"

    async def _run(
        self, call: Callable[[], Awaitable[T]], secrets: tuple[str, ...], shown: str
    ) -> T | DatabaseError:
        self._statements += 1
        found = await _attempt(call, secrets, shown)
        if not isinstance(found, DatabaseError):
            return found
        if found.lost:
            # Whatever the driver still believes of it, nothing may be sent on it again.
            self._connection.terminate()
        elif self._connection.is_closed():
            found.lost = True
        return found


def _call(method: Callable[..., Awaitable[T]], *args: str) -> Callable[[], Awaitable[T]]:
    async def call() -> T:
        return await method(*args)

    return call


def _opener(
    url: JdbcUrl, secure: ssl.SSLContext | bool, user: str, password: str, timeout: float
) -> Callable[[], Awaitable[Connection[Any]]]:
    async def open_connection() -> Connection[Any]:
        import asyncpg

        # All of it is said, because the driver fills every gap from PG* variables.
        return await asyncpg.connect(
            host=url.host,
            port=url.port,
            user=user,
            password=password,
            database=url.database,
            ssl=secure,
            direct_tls=False,
            timeout=timeout,
            statement_cache_size=0,
            target_session_attrs=asyncpg.connect_utils.SessionAttribute.any,
        )

    return open_connection


async def _attempt(
    call: Callable[[], Awaitable[T]], secrets: tuple[str, ...], shown: str
) -> T | DatabaseError:
    """The result, or our own error. Returned, not raised: an error raised inside ``except`` keeps
    the driver's as its context, whatever ``from None`` says."""
    from asyncpg.exceptions import PostgresError

    try:
        return await call()
    except PostgresError as error:
        return _server_error(error, secrets, shown)
    except OSError as error:
        # Their text holds addresses and reasons of the operating system, nothing of ours.
        reason = redact(str(error)) or type(error).__name__
        return DatabaseError(
            "the database cannot be reached",
            lost=True,
            fix="Check host and port, that the cluster lets this machine in, and its TLS "
            "(?ssl=false in the URL only for a test double)",
            reason=reason,
        )
    except Exception as error:
        # The driver's own trouble: whether the statement ran is unknown, so it counts as lost.
        return DatabaseError(
            "the connection to the database failed",
            lost=True,
            reason=type(error).__name__,
            statement=shown,
        )


def _server_error(error: PostgresError, secrets: tuple[str, ...], shown: str) -> DatabaseError:
    sqlstate = str(error.sqlstate or "")
    severity = str(getattr(error, "severity_en", None) or getattr(error, "severity", None) or "")
    lost = sqlstate in _LOST_STATES or sqlstate.startswith(_LOST_CLASS) or severity in _FATAL
    message = _scrub(str(error.args[0] if error.args else ""), secrets)
    detail = _scrub(str(getattr(error, "detail", None) or ""), secrets)
    lines = dict(_DETAIL.findall(detail))
    if sqlstate.startswith(_LOGIN_CLASS):
        return LoginRefused(
            message or "the login was refused",
            sqlstate=sqlstate,
            fix="Check S3ENGINE_DB_USER and S3ENGINE_DB_PASSWORD, or UID and PWD in the URL",
            statement=shown,
        )
    return DatabaseError(
        message or "the database refused the statement",
        sqlstate=sqlstate,
        lost=lost,
        detail=lines.get("error", detail if not lines else ""),
        redshift_code=lines.get("code"),
        context=lines.get("context"),
        query_id=lines.get("query"),
        statement=shown,
    )


def _secrets(sql: str, public_sql: str) -> tuple[str, ...]:
    """The literals that the public text does not show."""
    return tuple(text for text in _LITERAL.findall(sql) if text and text not in public_sql)


def _scrub(text: str, secrets: tuple[str, ...]) -> str:
    """``text`` without secrets and without pieces of them, at most 1,000 characters."""
    for secret in secrets:
        text = text.replace(secret, "***")
    text = _WORD.sub(lambda found: "***" if _is_piece(found[0], secrets) else found[0], text)
    return redact(text)[:_MAX_MESSAGE].strip()


def _is_piece(word: str, secrets: tuple[str, ...]) -> bool:
    return any(word in secret for secret in secrets)


def _tls(url: JdbcUrl) -> ssl.SSLContext | bool:
    """The TLS settings of a URL. Blocks: it reads certificates."""
    mode = url.tls
    if mode == "plain":
        return False
    try:
        context = ssl.create_default_context(cafile=url.properties.get("sslrootcert"))
    except OSError as error:
        raise LoadRefused("the certificates of sslrootcert cannot be read", reason=error) from error
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.check_hostname = mode == "verify-full"
    return context


def _keep_alive(connection: Connection[Any]) -> None:
    # asyncpg has no public way to its socket.
    transport = getattr(connection, "_transport", None)
    found = transport.get_extra_info("socket") if transport is not None else None
    if found is None or found.family not in (socket.AF_INET, socket.AF_INET6):
        return
    found.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name in ("TCP_KEEPIDLE", "TCP_KEEPINTVL"):
        if hasattr(socket, name):
            found.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), _KEEPALIVE_SECONDS)
