"""When a thread's turns are called scarce, and when no longer."""

from __future__ import annotations

import threading
import time

from engine._wire.turns import Turns


def scarce(turns: Turns, share: float, pieces: int) -> bool:
    """Whether they are after so many pieces of work that ran for this share of their time."""
    for _ in range(pieces):
        turns.told(0.001, 0.001 * share)
    return turns.are_scarce


def test_waiting_for_much_of_the_time_is_noticed_within_a_second_and_forgotten_too() -> None:
    turns = Turns()
    assert not scarce(turns, 0.8, 1000)
    assert scarce(turns, 0.5, 100)
    assert not scarce(turns, 0.85, 100)


def test_a_long_wait_now_and_then_is_no_want_of_turns() -> None:
    turns = Turns()
    for _ in range(20):
        assert not scarce(turns, 0.1, 1)
        assert not scarce(turns, 0.9, 19)


def test_it_goes_neither_up_nor_down_in_between() -> None:
    turns = Turns()
    assert not scarce(turns, 0.76, 1000)
    assert scarce(turns, 0.4, 1000)
    assert scarce(turns, 0.76, 1000)


def test_what_waits_for_the_interpreter_lock_is_seen() -> None:
    """Of a thread that lets go of it beside one that never does."""
    stop = threading.Event()

    def busy() -> None:
        while not stop.is_set():
            pass

    beside = threading.Thread(target=busy)
    turns = Turns()
    beside.start()
    try:
        until = time.monotonic() + 5
        while not turns.are_scarce and time.monotonic() < until:
            with turns:
                time.sleep(0)
    finally:
        stop.set()
        beside.join()
        turns.close()
    assert turns.are_scarce
