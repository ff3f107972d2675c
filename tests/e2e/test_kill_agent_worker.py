"""`kill -9` of the agent worker at random moments: turns end, once, and are told whole."""

from __future__ import annotations

import random
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.e2e.killing import platform

if TYPE_CHECKING:
    from tests.e2e.killing import Kind
    from tests.fixtures.servers import Servers

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]
# From before the worker takes the turn until after the model begins its last answer.
LONGEST: dict[Kind, float] = {"words": 0.9, "tools": 1.6}


async def test_a_killed_agent_worker(servers: Servers, tmp_path: Path) -> None:
    moments = random.Random(20)
    async with platform(servers, tmp_path) as running:
        outcomes = [
            await running.killed_turn(kind, moments.uniform(0.0, longest))
            for kind, longest in LONGEST.items()
            for _ in range(3)
        ]
        assert [o for o in outcomes if o.faults] == [], running.log("agents")
    assert sum(o.takeovers for o in outcomes) > 0, outcomes
