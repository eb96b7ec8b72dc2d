"""An engine belongs to one event loop of one process under asyncio, and says so."""

from __future__ import annotations

import asyncio
import os
import sys

import pytest

from engine import Engine, WrongLoop
from tests.integration.conftest import Scene


async def test_a_closed_engine_says_so(scene: Scene) -> None:
    engine = scene.engine()
    with pytest.raises(WrongLoop, match="not open"):
        await engine.upload(b"x", scene.url("key"))
    async with engine:
        pass
    with pytest.raises(WrongLoop, match="not open"):
        await engine.upload(b"x", scene.url("key"))


def test_in_a_second_loop_it_says_so(scene: Scene) -> None:
    engine = scene.engine()
    runner = asyncio.Runner()
    with runner:
        runner.run(engine.__aenter__())
        with asyncio.Runner() as second, pytest.raises(WrongLoop, match="another event loop"):
            second.run(engine.upload(b"x", scene.url("key")))
        asyncio.set_event_loop(runner.get_loop())


def test_under_trio_it_says_so() -> None:
    coroutine = Engine().__aenter__()
    with pytest.raises(WrongLoop, match="asyncio"):
        coroutine.send(None)


@pytest.mark.skipif(sys.platform == "win32", reason="no fork")
async def test_after_a_fork_it_says_so(scene: Scene) -> None:
    async with scene.engine() as engine:
        await engine.upload(b"x", scene.url("key"))
        read, write = os.pipe()
        pid = os.fork()
        if pid == 0:  # the child: say what happens and vanish without a trace
            try:
                engine.upload(b"x", scene.url("key")).send(None)
            except WrongLoop as error:
                os.write(write, error.headline.encode())
            finally:
                os._exit(0)
        os.close(write)
        os.waitpid(pid, 0)
        assert b"before a fork" in os.read(read, 1000)
        os.close(read)


async def test_many_tasks_share_one_engine(scene: Scene) -> None:
    import anyio

    async with scene.engine() as engine, anyio.create_task_group() as tasks:
        for number in range(200):
            tasks.start_soon(engine.upload, str(number).encode(), scene.url(f"n/{number}"))
    assert len(scene.aws.gate.list_keys(scene.bucket)) == 200
    assert len(scene.log("AssumeRole")) == 1
