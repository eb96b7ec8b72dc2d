"""Every target for a moment in the default suite, and for ten minutes each by ``make prove``."""

from __future__ import annotations

import secrets

import pytest

from tests.fuzz.runner import run
from tests.fuzz.targets import TARGETS

# A second in all: what was found once is found again. A journal is two files: 7 ms.
_FEW = {"journals": 50}
_USUAL = 1_000
_LONG = 600.0


@pytest.mark.parametrize("name", TARGETS)
def test_for_a_moment(name: str) -> None:
    few = _FEW.get(name, _USUAL)
    outcome = run(TARGETS[name], 0.0, 1, examples=few)
    assert not outcome.failure, outcome
    assert outcome.examples == few


@pytest.mark.prove
@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", TARGETS)
def test_for_ten_minutes(name: str) -> None:
    seed = secrets.randbits(40)
    outcome = run(TARGETS[name], _LONG, seed)
    print(f"{name}: {outcome.examples} examples from seed {seed}")
    assert not outcome.failure, f"{outcome.failure}\nseed {outcome.seed}"
