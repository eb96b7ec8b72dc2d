"""Rows in groups: in order, each written before it is told, nobody waiting for ever."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import anyio

from engine.batch.journal.commits import Commits
from engine.batch.journal.store import Row
from engine.errors import JournalError
from engine.threads import ThreadDoor


class _Writer:
    """What was written, in groups; slow or broken where the test says so."""

    def __init__(self) -> None:
        self.groups: list[tuple[list[str], bool]] = []
        self.go = threading.Event()
        self.go.set()
        self.fails = False

    def __call__(self, rows: Sequence[Row], durable: bool) -> None:
        assert self.go.wait(10)
        if self.fails:
            raise JournalError("the disk is full")
        self.groups.append(([sql for sql, _ in rows], durable))

    @property
    def written(self) -> list[str]:
        return [row for rows, _ in self.groups for row in rows]


async def _until_leading(commits: Commits) -> None:
    while not commits.leading:
        await anyio.sleep(0.001)


async def test_rows_that_come_together_go_together() -> None:
    writer = _Writer()
    commits = Commits(ThreadDoor(), writer)
    writer.go.clear()
    commits.add(("late", ()))

    async def commit(number: int) -> None:
        await commits.commit((str(number), ()), durable=number == 20)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(commits.commit, ("first", ()))
        await _until_leading(commits)
        for number in range(50):
            tasks.start_soon(commit, number)
        await anyio.sleep(0.01)
        writer.go.set()
    assert writer.groups[0] == (["late", "first"], False)
    assert writer.groups[1] == ([str(number) for number in range(50)], True)
    assert (commits.trips, commits.durable, commits.written) == (2, 1, 52)


async def test_a_row_whose_caller_is_cancelled_is_written_all_the_same() -> None:
    writer = _Writer()
    commits = Commits(ThreadDoor(), writer)
    writer.go.clear()
    scopes: list[anyio.CancelScope] = []

    async def commit(name: str) -> None:
        with anyio.CancelScope() as scope:
            scopes.append(scope)
            await commits.commit((name, ()))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(commit, "leads")
        await _until_leading(commits)
        for number in range(5):
            tasks.start_soon(commit, f"waits-{number}")
        await anyio.sleep(0.01)
        for scope in scopes[:3]:
            scope.cancel()
        writer.go.set()
    await commits.flush()
    assert sorted(writer.written) == ["leads", *(f"waits-{number}" for number in range(5))]


async def test_who_is_to_lead_and_is_cancelled_passes_it_on() -> None:
    writer = _Writer()
    commits = Commits(ThreadDoor(), writer)
    for round_ in range(30):
        writer.go.clear()
        scopes: list[anyio.CancelScope] = []

        async def commit(name: str, scopes: list[anyio.CancelScope] = scopes) -> None:
            with anyio.CancelScope() as scope:
                scopes.append(scope)
                await commits.commit((name, ()))

        with anyio.fail_after(5):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(commit, "leads")
                await _until_leading(commits)
                for number in range(4):
                    tasks.start_soon(commit, str(number))
                await anyio.sleep(0)
                writer.go.set()
                while commits.leading:
                    await anyio.sleep(0)
                scopes[1 + round_ % 4].cancel()
    await commits.flush()
    assert len(writer.written) == 150 and commits.waiting == 0


async def test_an_error_reaches_all_whose_rows_it_took_and_nobody_else() -> None:
    writer = _Writer()
    commits = Commits(ThreadDoor(), writer)
    failed: list[str] = []
    writer.go.clear()
    writer.fails = True

    async def commit(name: str) -> None:
        try:
            await commits.commit((name, ()))
        except JournalError:
            failed.append(name)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(commit, "leads")
        await _until_leading(commits)
        for number in range(3):
            tasks.start_soon(commit, str(number))
        await anyio.sleep(0.01)
        writer.go.set()
    assert sorted(failed) == ["0", "1", "2", "leads"]
    assert commits.lost == 4 and "full" in str(commits.trouble)
    writer.fails = False
    await commits.commit(("better", ()))
    assert writer.written == ["better"]


async def test_rows_of_a_leader_that_was_cancelled_before_a_thread_began_wait() -> None:
    door, writer = ThreadDoor(1), _Writer()
    commits = Commits(door, writer)
    busy = threading.Event()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(door.run, busy.wait, 10)
        await anyio.sleep(0.01)
        with anyio.move_on_after(0.01):
            await commits.commit(("one", ()), durable=True)
        assert (commits.waiting, commits.leading) == (1, False)
        busy.set()
    await commits.commit(("two", ()))
    assert writer.groups == [(["one", "two"], True)]
