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


def test_waiting_for_most_of_the_time_is_noticed_within_a_second_and_forgotten_too() -> None:
    turns = Turns()
    assert not scarce(turns, 0.5, 1000)
    assert scarce(turns, 0.25, 300)
    assert not scarce(turns, 0.5, 300)


def test_a_few_long_waits_are_no_want_of_turns() -> None:
    """At the beginning least of all, when pages are cold."""
    turns = Turns()
    for _ in range(20):
        assert not scarce(turns, 0.1, 10)
        assert not scarce(turns, 0.6, 90)


def test_it_goes_neither_up_nor_down_in_between() -> None:
    turns = Turns()
    assert not scarce(turns, 0.4, 1000)
    assert scarce(turns, 0.2, 1000)
    assert scarce(turns, 0.4, 1000)


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
    assert turns.are_scarce
