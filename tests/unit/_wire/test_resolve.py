"""Which address of a host a new connection goes to."""

from __future__ import annotations

import asyncio
import socket
import sys
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, closing, suppress
from random import Random
from typing import Any

import pytest

from engine._wire.connect import STAGGER_SECONDS, Connector
from engine._wire.connection import Connection
from engine._wire.endpoint import Origin as Address
from engine._wire.resolve import ADDRESS_SECONDS, MAX_HOSTS, STALE_SECONDS, Resolver
from engine.config import Timeouts
from engine.errors import ConnectionFailed
from engine.testing.clock import run_virtual
from engine.threads import ThreadDoor

HOST = "store.example"
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="127.0.0.2 is not everywhere")


@pytest.fixture
def anyio_backend() -> Any:
    """A method of this loop can be replaced; what is below it is the same in both."""
    return ("asyncio", {"use_uvloop": False})


class Dns:
    """What the loop's resolver says from now on, and how often it was asked."""

    def __init__(self, *addresses: str) -> None:
        self.addresses: Sequence[str] = addresses
        self.asked = 0
        asyncio.get_running_loop().getaddrinfo = self._answer  # type: ignore[method-assign]

    async def _answer(self, host: Any, port: Any, **_: Any) -> list[Any]:
        self.asked += 1
        await asyncio.sleep(0)
        if not self.addresses:
            raise socket.gaierror(socket.EAI_AGAIN, "try again")
        return [
            (socket.AF_INET6, 1, 6, "", (a, port, 0, 0))
            if ":" in a
            else (socket.AF_INET, 1, 6, "", (a, port))
            for a in self.addresses
        ]


@asynccontextmanager
async def listening(*addresses: str) -> AsyncIterator[tuple[int, Counter[str]]]:
    """One port on each of the addresses, and who was called how often."""
    seen: Counter[str] = Counter()

    async def handle(reader: Any, writer: Any) -> None:
        seen[writer.get_extra_info("sockname")[0]] += 1
        try:
            await reader.read()
        finally:
            writer.transport.abort()

    async with AsyncExitStack() as stack:
        port = 0
        for address in addresses:
            server = await asyncio.start_server(handle, address, port)
            port = server.sockets[0].getsockname()[1]
            stack.callback(server.close)
        yield port, seen
        await asyncio.sleep(0.02)


async def dial(connector: Connector, port: int, count: int) -> list[str]:
    """The addresses that ``count`` connections one behind the other have come to."""
    found = []
    for _ in range(count):
        connection: Connection = await connector.open(Address("http", HOST, port))
        assert connection._transport is not None
        found.append(connection._transport.get_extra_info("peername")[0])
        connection.abort()
        await connection.closed()
    return found


def connector(timeouts: Timeouts | None = None) -> Connector:
    return Connector(timeouts or Timeouts(), ThreadDoor(), None, resolver=Resolver(Random(1)))


async def test_connections_are_spread_over_the_addresses() -> None:
    all_of_them = [f"127.0.0.{n}" for n in range(1, 5)]
    async with listening(*all_of_them) as (port, _):
        dns = Dns(*all_of_them)
        found = await dial(connector(), port, 12)
        assert Counter(found) == dict.fromkeys(all_of_them, 3)
        assert dns.asked == 1
        assert found[:4] != all_of_them, "not everybody begins with the first"


async def test_a_dead_address_is_left_alone_and_dns_is_asked_again() -> None:
    async with listening("127.0.0.1", "127.0.0.3") as (port, _):
        dns = Dns("127.0.0.1", "127.0.0.2", "127.0.0.3")
        tried: list[str] = []
        loop = asyncio.get_running_loop()
        connect = loop.sock_connect

        async def recorded(called: socket.socket, address: Any) -> None:
            tried.append(address[0])
            await connect(called, address)

        loop.sock_connect = recorded  # type: ignore[method-assign, assignment]
        wire = connector()
        assert set(await dial(wire, port, 12)) == {"127.0.0.1", "127.0.0.3"}
        assert tried.count("127.0.0.2") == 1
        assert dns.asked == 2


async def test_an_address_that_does_not_answer_costs_a_moment_once() -> None:
    with closing(socket.socket()) as full, ExitStack() as stack:
        full.bind(("127.0.0.2", 0))
        full.listen(0)
        port = full.getsockname()[1]
        for _ in range(3):  # fills the queue: further calls are not answered
            waiting = stack.enter_context(closing(socket.socket()))
            waiting.setblocking(False)
            waiting.connect_ex(("127.0.0.2", port))
        server = await asyncio.start_server(lambda r, w: w.close(), "127.0.0.1", port)
        stack.callback(server.close)
        Dns("127.0.0.2", "127.0.0.1")
        began = asyncio.get_running_loop().time()
        assert await dial(connector(), port, 8) == ["127.0.0.1"] * 8
        assert asyncio.get_running_loop().time() - began >= STAGGER_SECONDS


async def test_a_long_handshake_is_no_reason_to_call_another() -> None:
    """TLS takes more round trips than a call: a far host would be called twice each time."""
    with ExitStack() as stack:
        first = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        port = first.getsockname()[1]
        second = stack.enter_context(socket.create_server(("127.0.0.2", port)))
        Dns("127.0.0.1", "127.0.0.2")
        wire = connector(Timeouts(connect=2 * STAGGER_SECONDS))
        with pytest.raises(ConnectionFailed, match="timed out"):
            await wire.open(Address("https", HOST, port))
        calls = 0
        for server in (first, second):
            server.setblocking(False)
            with suppress(BlockingIOError):
                server.accept()[0].close()
                calls += 1
        assert calls == 1


async def test_ipv6_first_and_then_ipv4() -> None:
    resolver = Resolver(Random(1))
    Dns("192.0.2.1", "192.0.2.2", "2001:db8::1", "2001:db8::2")
    for _ in range(3):
        order = await resolver.addresses(HOST, 443)
        assert [":" in address for address in order] == [True, False, True, False]
    async with listening("127.0.0.1") as (port, _):
        Dns("127.0.0.1", "::1")
        assert await dial(connector(), port, 3) == ["127.0.0.1"] * 3


async def test_nobody_there_says_why() -> None:
    async with listening("127.0.0.1") as (port, _):
        Dns("127.0.0.2", "127.0.0.3")
        with pytest.raises(ConnectionFailed, match="could not connect to http://store.example"):
            await dial(connector(), port, 1)
        Dns()
        with pytest.raises(ConnectionFailed, match="try again"):
            await dial(connector(), port, 1)


async def test_all_dead_is_no_reason_not_to_try() -> None:
    async with listening("127.0.0.1") as (port, _):
        Dns("127.0.0.1", "127.0.0.2")
        resolver = Resolver(Random(1))
        resolver.failed(HOST, "127.0.0.1")
        resolver.failed(HOST, "127.0.0.2")
        wire = Connector(Timeouts(), ThreadDoor(), None, resolver=resolver)
        assert await dial(wire, port, 2) == ["127.0.0.1"] * 2


async def test_an_address_is_not_asked_for() -> None:
    dns = Dns()
    assert await Resolver().addresses("127.0.0.1", 80) == ("127.0.0.1",)
    assert await Resolver().addresses("::1", 80) == ("::1",)
    assert dns.asked == 0


async def test_one_question_serves_all_who_wait_and_few_names_are_kept() -> None:
    dns = Dns("192.0.2.1")
    resolver = Resolver()
    await asyncio.gather(*(resolver.addresses(HOST, 443) for _ in range(50)))
    assert dns.asked == 1
    for number in range(MAX_HOSTS + 5):
        await resolver.addresses(f"bucket{number}.example", 443)
    assert repr(resolver) == f"<Resolver hosts={MAX_HOSTS} dead=0>"


def virtually(check: Callable[[Resolver, Dns], Awaitable[None]]) -> None:
    async def main() -> None:
        await check(Resolver(), Dns("192.0.2.1"))

    run_virtual(main)


def test_an_answer_is_used_for_seconds() -> None:
    async def check(resolver: Resolver, dns: Dns) -> None:
        for seconds, asked in ((0, 1), (ADDRESS_SECONDS - 1, 1), (1.5, 2)):
            await asyncio.sleep(seconds)
            await resolver.addresses(HOST, 443)
            assert dns.asked == asked
        dns.addresses = ("192.0.2.7",)
        assert await resolver.addresses(HOST, 443) == ["192.0.2.1"]
        await asyncio.sleep(ADDRESS_SECONDS)
        assert await resolver.addresses(HOST, 443) == ["192.0.2.7"]

    virtually(check)


def test_the_last_answer_serves_while_dns_fails_but_not_for_ever() -> None:
    async def check(resolver: Resolver, dns: Dns) -> None:
        await resolver.addresses(HOST, 443)
        dns.addresses = ()
        await asyncio.sleep(STALE_SECONDS - 1)
        assert await resolver.addresses(HOST, 443) == ["192.0.2.1"]
        await asyncio.sleep(STALE_SECONDS)
        with pytest.raises(OSError, match="try again"):
            await resolver.addresses(HOST, 443)

    virtually(check)
