"""The escape suite: what a hostile call does to itself, and that the next one notices nothing.

Each attack of `attacks.py` runs in a pool of one sandbox, in both back ends; then the next call
looks around. What the process back end does not contain, it must say. What calls can reach is in
`test_escape_reach.py`, what they get through the proxy in `test_egress.py`.
"""

from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from sinas.sandbox.base import Returned, Sandbox
from sinas.sandbox.opening import open_sandbox
from tests.sandbox.attacks import ENDINGS, EXHAUSTION, FORGERY, LEFTOVERS, LOOK, Attack
from tests.sandbox.conftest import invocation, require_containment, settings_for, value_of


@pytest_asyncio.fixture(scope="module")
async def single(backend: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Sandbox]:
    """A pool of exactly one sandbox, so that the next call follows in the attacked one."""
    settings = settings_for(
        tmp_path_factory.mktemp(backend), backend=backend, max_size=1, tmp_mb=20
    )
    opened = await open_sandbox(settings, worker_id="tests", progress=print)
    require_containment(opened)
    yield opened
    await opened.aclose()


@pytest_asyncio.fixture(scope="module")
async def untouched(single: Sandbox) -> Any:
    """What the first call of all finds."""
    return value_of(await single.run(invocation(LOOK, input="first")))


def by_name(attacks: tuple[Attack, ...]) -> list[Any]:
    return [pytest.param(attack, id=attack.name.replace(" ", "-")) for attack in attacks]


async def attack_and_look(single: Sandbox, untouched: Any, attack: Attack) -> None:
    outcome = await single.run(invocation(attack.code, timeout=attack.timeout))
    status = single.status()
    if attack.process_only_warns and status.backend == "process":
        assert isinstance(outcome, Returned), outcome
        assert any(attack.process_only_warns in warning for warning in status.warnings)
    else:
        assert isinstance(outcome, attack.ends), outcome
        assert attack.says in getattr(outcome, "error", getattr(outcome, "reason", "")), outcome
    assert len(outcome.stdout) < 10_100
    assert len(outcome.stderr) < 10_100
    after = await single.run(invocation(LOOK, input="next"))
    assert value_of(after) == {**untouched, "input": "next"}
    assert after.stdout == "printed\n"


@pytest.mark.parametrize("attack", by_name(EXHAUSTION))
async def test_exhaustion(single: Sandbox, untouched: Any, attack: Attack) -> None:
    await attack_and_look(single, untouched, attack)


@pytest.mark.parametrize("attack", by_name(ENDINGS))
async def test_endings(single: Sandbox, untouched: Any, attack: Attack) -> None:
    await attack_and_look(single, untouched, attack)


@pytest.mark.parametrize("attack", by_name(FORGERY))
async def test_forgery(single: Sandbox, untouched: Any, attack: Attack) -> None:
    await attack_and_look(single, untouched, attack)


@pytest.mark.parametrize("attack", by_name(LEFTOVERS))
async def test_leftovers(single: Sandbox, untouched: Any, attack: Attack) -> None:
    await attack_and_look(single, untouched, attack)


async def test_the_first_call_finds_nothing(untouched: Any) -> None:
    assert set(map(len, untouched["files"].values())) == {0}
    assert untouched["strangers"] == []
    assert untouched["processes"] == 3  # the warm parent, its relay, the call
    assert untouched["threads"] == 1
    assert untouched["modules"] == []
