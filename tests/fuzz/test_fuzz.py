"""Every target for a moment in the default suite, and for ten minutes each by ``make prove``."""

from __future__ import annotations

import secrets

import pytest

from tests.fuzz.runner import run
from tests.fuzz.targets import TARGETS

# Milliseconds in all: what was found once is found again.
_FEW = 1_500
_LONG = 600.0
# An example is two files: 7 ms.
_FEWER = {"journals": 100}


@pytest.mark.parametrize("name", TARGETS)
def test_for_a_moment(name: str) -> None:
    examples = _FEWER.get(name, _FEW)
    outcome = run(TARGETS[name], 0.0, 1, examples=examples)
    assert not outcome.failure, outcome
    assert outcome.examples == examples


@pytest.mark.prove
@pytest.mark.parametrize("name", TARGETS)
def test_for_ten_minutes(name: str) -> None:
    seed = secrets.randbits(40)
    outcome = run(TARGETS[name], _LONG, seed)
    print(f"{name}: {outcome.examples} examples from seed {seed}")
    assert not outcome.failure, f"{outcome.failure}\nseed {outcome.seed}"
