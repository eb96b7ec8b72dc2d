"""Addresses of hosts: asked for every few seconds, and handed out in turn.

What lives here: which address a new connection tries first, and which it leaves alone for a while.
What must not: dialling (``connect``).

S3 answers with up to eight addresses of a large set, and other ones seconds later; each stands for
another machine. A client that always dials the first one loads one machine, and goes down with it.
https://docs.aws.amazon.com/whitepapers/latest/s3-optimizing-performance-best-practices/
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Sequence
from itertools import chain, zip_longest
from random import Random
from typing import final

import anyio
from msgspec import Struct, field

# S3's names live for 5 seconds in DNS; the system's cache decides what asking again costs. Seconds.
ADDRESS_SECONDS = 10.0
# An address that failed is left alone so long, where there are others. Seconds.
DEAD_SECONDS = 30.0
# How long the last answer serves while DNS fails. Seconds.
STALE_SECONDS = 600.0
# Virtual-host style has a name for each bucket.
MAX_HOSTS = 256


class _Host(Struct):
    """What is known of one name."""

    asking: anyio.Lock = field(default_factory=anyio.Lock)
    addresses: tuple[tuple[str, ...], tuple[str, ...]] = ((), ())  # IPv6, IPv4
    asked_at: float = float("-inf")
    fresh_until: float = float("-inf")
    turn: int = 0


@final
class Resolver:
    """Addresses for the connections of one pool.

    Args:
        random: The order of the first round; passed so that a run can be repeated.
    """

    def __init__(self, random: Random | None = None) -> None:
        self._random = random or Random()
        self._hosts: dict[str, _Host] = {}
        self._dead: dict[str, float] = {}

    async def addresses(self, host: str, port: int) -> Sequence[str]:
        """Addresses to try, in this order: each call begins with the next one.

        Raises:
            OSError: The name is not known (``socket.gaierror``).
        """
        if _is_address(host):
            return (host,)
        known = self._hosts.get(host)
        if known is None:
            while len(self._hosts) >= MAX_HOSTS:
                del self._hosts[next(iter(self._hosts))]
            known = self._hosts[host] = _Host()
        if not self._is_fresh(known):
            async with known.asking:
                if not self._is_fresh(known):
                    await self._ask(host, port, known)
        known.turn += 1
        return self._living(_interleaved(*(_turned(a, known.turn) for a in known.addresses)))

    def failed(self, host: str, address: str) -> None:
        """``address`` could not be dialled: others come first for a while, and DNS is asked."""
        self.slow(address)
        known = self._hosts.get(host)
        if known is not None:
            known.fresh_until = float("-inf")

    def slow(self, address: str) -> None:
        """Another address was faster by more than a try: that one comes first for a while."""
        now = _now()
        self._dead = {a: until for a, until in self._dead.items() if until > now}
        self._dead[address] = now + DEAD_SECONDS

    def _is_fresh(self, known: _Host) -> bool:
        return _now() < known.fresh_until

    async def _ask(self, host: str, port: int, known: _Host) -> None:
        loop = asyncio.get_running_loop()
        try:
            found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except OSError:
            if _now() - known.asked_at > STALE_SECONDS:
                raise
            known.fresh_until = _now() + ADDRESS_SECONDS
            return
        six, four = (
            list(dict.fromkeys(str(to[0]) for family, _, _, _, to in found if family == wanted))
            for wanted in (socket.AF_INET6, socket.AF_INET)
        )
        if not six and not four:
            raise socket.gaierror(socket.EAI_NONAME, f"{host} has no address")
        self._random.shuffle(six)
        self._random.shuffle(four)
        known.addresses = tuple(six), tuple(four)
        known.asked_at = _now()
        known.fresh_until = known.asked_at + ADDRESS_SECONDS

    def _living(self, addresses: list[str]) -> list[str]:
        """The dead ones last: they may be all there is."""
        now = _now()
        return sorted(addresses, key=lambda address: self._dead.get(address, 0.0) > now)

    def __repr__(self) -> str:
        return f"<Resolver hosts={len(self._hosts)} dead={len(self._dead)}>"


def _now() -> float:
    return asyncio.get_running_loop().time()


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _turned(addresses: Sequence[str], turn: int) -> list[str]:
    cut = turn % len(addresses) if addresses else 0
    return [*addresses[cut:], *addresses[:cut]]


def _interleaved(six: Sequence[str], four: Sequence[str]) -> list[str]:
    """IPv6 and IPv4 in turn, so that a network without one of them costs one try (RFC 8305, 4)."""
    pairs = chain.from_iterable(zip_longest(six, four))
    return [address for address in pairs if address is not None]
