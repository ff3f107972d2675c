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
# From before the worker takes the turns until after the last answer of the longest one begins.
LONGEST = 2.6
SIDE_BY_SIDE: tuple[Kind, ...] = ("words", "tools", "asks")
KILLS = 3


async def test_a_killed_agent_worker(servers: Servers, tmp_path: Path) -> None:
    moments = random.Random(20)
    async with platform(servers, tmp_path) as running:
        outcomes = [
            outcome
            for _ in range(KILLS)
            for outcome in await running.killed_turns(SIDE_BY_SIDE, moments.uniform(0.0, LONGEST))
        ]
        assert [o for o in outcomes if o.faults] == [], running.log("agents")
    assert sum(o.takeovers for o in outcomes) > 0, outcomes
