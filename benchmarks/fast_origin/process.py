"""The origin as a child process: its addresses, its counts, its switches.

What lives here: starting, asking, ending. What must not: what is done with the counts.
"""

from __future__ import annotations

import http.client
import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from benchmarks.fast_origin.build import Programs

_END_SECONDS = 10.0
_ASK_SECONDS = 30.0
_BLOCK = 1024 * 1024

Counts = dict[str, Any]


class OriginProcess:
    """It ends when its standard input is closed, so also with its parent.

    Args:
        folder: Where the certificate of this process is put; it holds a key nobody trusts.
        threads: Loops; connections are dealt out to them in turn.
        tls: Also listen for https.
    """

    def __init__(self, programs: Programs, folder: Path, *, threads: int = 1, tls: bool) -> None:
        command = [str(programs.origin), "--threads", str(threads)]
        self.ca = ""
        if tls:
            self.ca, pair = _certificates(folder)
            command += ["--tls", pair, pair]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            self._process.wait(_END_SECONDS)
            raise RuntimeError("the origin did not start; what it said is above")
        ports = json.loads(line)
        self.port: int = ports["http"]
        self.tls_port: int = ports["https"]

    def endpoint(self, transport: str) -> str:
        """``http`` or ``https``, by the name that the certificate has."""
        port = self.port if transport == "http" else self.tls_port
        return f"{transport}://127.0.0.1:{port}"

    def counts(self) -> Counts:
        """All counts since the start, CPU seconds among them."""
        return self._ask("/_stats")

    def set(self, *, rtt_ms: int = 0, bandwidth: int = 0, check: bool = True) -> None:
        """From the next request on. Bandwidth is bytes per second of each connection, per way."""
        self._ask(f"/_set?rtt_ms={rtt_ms}&bandwidth={bandwidth}&check={int(check)}")

    def assume_role(self) -> tuple[str, str, str]:
        """Keys of a session: access key, secret key, token. For tools that assume no role."""
        from xml.etree import ElementTree

        with self._connection() as connection:
            connection.request("POST", "/", b"Action=AssumeRole&Version=2011-06-15")
            root = ElementTree.fromstring(connection.getresponse().read())
        found = {node.tag.rpartition("}")[2]: node.text or "" for node in root.iter()}
        return found["AccessKeyId"], found["SecretAccessKey"], found["SessionToken"]

    def fetch(self, bucket: str, key: str, path: Path) -> None:
        """One object into a file, without holding it in memory."""
        with self._connection() as connection:
            connection.request("GET", f"/{bucket}/{key}")
            answer = connection.getresponse()
            with path.open("wb") as file:
                while block := answer.read(_BLOCK):
                    file.write(block)

    def fetch_many(self, bucket: str, prefix: str, names: list[str], folder: Path) -> None:
        """Small objects below a prefix, over one connection."""
        with self._connection() as connection:
            for name in names:
                connection.request("GET", f"/{bucket}/{prefix}{name}")
                path = folder / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(connection.getresponse().read())

    def _ask(self, path: str) -> Counts:
        with self._connection() as connection:
            connection.request("GET", path)
            answer: Counts = json.loads(connection.getresponse().read())
        return answer

    @contextmanager
    def _connection(self) -> Iterator[http.client.HTTPConnection]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=_ASK_SECONDS)
        try:
            yield connection
        finally:
            connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.close()
        try:
            self._process.wait(_END_SECONDS)
        finally:
            self._process.kill()
            self._process.stdout.close()
            self._process.wait()


def _certificates(folder: Path) -> tuple[str, str]:
    """An authority and a certificate for loopback: files of the authority, of key and chain."""
    import trustme

    authority = trustme.CA()
    issued = authority.issue_cert("127.0.0.1", "localhost")
    ca, pair = folder / "ca.pem", folder / "server.pem"
    authority.cert_pem.write_to_path(str(ca))
    pair.touch(mode=0o600)
    issued.private_key_and_cert_chain_pem.write_to_path(str(pair))
    return str(ca), str(pair)
