"""The controller on the simulated server: near to what it can, few refusals."""

from __future__ import annotations

import pytest

from benchmarks import controller
from engine.testing.clock import run_virtual


@pytest.mark.parametrize(
    "scene", [pytest.param(scene, marks=pytest.mark.prove) for scene in controller.SCENES]
)
def test_goodput_is_near_the_capacity_and_refusals_are_rare(
    scene: controller.Scene,
) -> None:
    outcome = run_virtual(scene)
    print("\n" + controller.table([outcome]))
    assert outcome.good
    assert outcome.facts.get("Jain", 1.0) >= 0.9


def test_a_partition_with_few_requests_is_used_and_not_flooded() -> None:
    outcome = run_virtual(controller.short)
    # Of few requests at once a refusal is a larger part.
    assert outcome.worst >= controller.ENOUGH and outcome.refused < 2 * controller.MAX_REFUSED
