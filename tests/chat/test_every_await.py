"""The worker dies at every await of a turn, and nobody can tell afterwards.

Each case plays turns whose worker is a process that ends, as by `kill -9`, before one of the
steps of the turn's tasks; another worker goes on. The turn with two tools dies at every step. The
others, one with a sub-agent and one with hooks and an answer that has to be asked for again, die at
every twenty-fourth, from a first one that is drawn anew each time, unless SINAS_EVERY_AWAIT=1 asks
for all of them (minutes more). Then two workers die, one after the
other, at steps drawn by a seed that a failure names and SINAS_AWAIT_SEED sets.
"""

from __future__ import annotations

import os
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TYPE_CHECKING, TypeAlias

import pytest

from tests.chat.crashing import DyingWorkers, Stage
from tests.chat.outcome import Outcome, faults_of
from tests.chat.support import Talks
from tests.factories.chats import make_agent
from tests.factories.functions import make_function
from tests.factories.llm import make_provider
from tests.support.effects import CODE
from tests.support.llm_script import Answer, Call

if TYPE_CHECKING:
    from sinas.settings import Settings

pytestmark = [pytest.mark.usefixtures("function_worker", "live"), pytest.mark.timeout(180)]
# Cases of a test, so that they fit into its time limit and xdist can share them out.
PARTS = 4
EVERY = os.getenv("SINAS_EVERY_AWAIT") == "1"
SEED = int(os.getenv("SINAS_AWAIT_SEED") or random.SystemRandom().randrange(10**6))
PAIRS = 5
SAMPLE = 24
FIND = Call("shop__find", '{"seconds": 0}', id="call_0")
FIND_SLOWLY = Call("shop__find", '{"seconds": 0.05}', id="call_1")
ASK = Call("call_agent_team__helper", '{"prompt": "help me"}', id="call_1")
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
CHANGED = "{'content': input_data['message']['content'] + ' [seen]'}"
Setting: TypeAlias = Callable[[Talks, DyingWorkers], Awaitable[Stage]]


def says(*words: str, calls: tuple[Call, ...] = ()) -> Answer:
    return Answer(chunks=words, calls=calls, delay=0.003)


FINAL = says("the ", "very ", "end")


async def two_tools(talks: Talks, workers: DyingWorkers) -> Stage:
    """Two calls of one round, one of them slow."""
    user = await talks.as_.user()
    await make_function(talks.context, user, CODE, namespace="shop", name="find")
    first = says("Let ", "me look. ", calls=(FIND, FIND_SLOWLY))
    talk = await talks([first, FINAL], enabled_functions=["shop/find"])
    return Stage(talk, user, workers, talks.llm)


async def a_sub_agent(talks: Talks, workers: DyingWorkers) -> Stage:
    """A sub-agent that calls a function, and a function beside it."""
    user = await talks.as_.user()
    await make_function(talks.context, user, CODE, namespace="shop", name="find")
    talks.llm.script("helper", [says("I ", "look. ", calls=(FIND,)), says("I ", "did")], by="round")
    await make_agent(
        talks.context,
        user,
        provider=await make_provider(talks.context, talks.llm.openai_url),
        namespace="team",
        name="helper",
        model="helper",
        enabled_functions=["shop/find"],
    )
    first = says("Let ", "me ask. ", calls=(FIND, ASK))
    talk = await talks(
        [first, FINAL], enabled_functions=["shop/find"], enabled_agents=["team/helper"]
    )
    return Stage(talk, user, workers, talks.llm)


async def hooks_and_a_repair(talks: Talks, workers: DyingWorkers) -> Stage:
    """Hooks on both sides, one of which holds the answer back, and an answer of the wrong form."""
    user = await talks.as_.user()
    for name, result in (("change", CHANGED), ("see", "{}")):
        code = CODE.replace('{"found": 7}', result)
        await make_function(talks.context, user, code, namespace="hooks", name=name)
    talk = await talks(
        [says('{"city": ', "7}"), says('{"city": ', '"Bern"}')],
        by="reply",
        output_schema=SCHEMA,
        hooks={
            "on_user_message": [{"function": "hooks/change"}],
            "on_assistant_message": [
                {"function": "hooks/see", "hold_back": True},
                {"function": "hooks/see"},
            ],
        },
    )
    return Stage(talk, user, workers, talks.llm)


@pytest.fixture(scope="module")
async def workers(
    settings: Settings, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[DyingWorkers]:
    made = DyingWorkers(settings, tmp_path_factory.mktemp("dying") / "workers.log")
    yield made
    await made.stop()


@pytest.fixture(autouse=True)
def impatient(talks: Talks, monkeypatch: pytest.MonkeyPatch) -> None:
    """Streams look at once, instead of after seconds, whether an end was not said."""
    monkeypatch.setitem(vars(talks.context.settings.chat), "ping_seconds", 0.1)


async def undisturbed(stage: Stage) -> Outcome:
    whole = await stage.play()
    assert faults_of(whole, whole) == []
    return whole


async def enumerate_steps(stage: Stage, first: int, stride: int) -> None:
    """Die at `first` and every `stride`th step behind it, until the turn ends before the step."""
    whole = await undisturbed(stage)
    faults = {}
    for die_at in range(first, 2 * whole.deaths[0].steps, stride):
        found = await stage.play(die_at)
        if wrong := faults_of(found, whole):
            faults[die_at] = wrong
        if not found.deaths[0].code:
            break
    else:
        pytest.fail("the turn's steps have no end")
    assert die_at > 0.7 * whole.deaths[0].steps, "the turn ended early, nothing died"
    assert faults == {}


@pytest.mark.parametrize("part", range(PARTS))
async def test_two_tools_side_by_side(talks: Talks, workers: DyingWorkers, part: int) -> None:
    await enumerate_steps(await two_tools(talks, workers), part + 1, PARTS)


@pytest.mark.parametrize("part", range(PARTS))
@pytest.mark.parametrize("setting", [a_sub_agent, hooks_and_a_repair])
async def test_longer_turns(
    talks: Talks, workers: DyingWorkers, setting: Setting, part: int
) -> None:
    stage = await setting(talks, workers)
    if EVERY:
        await enumerate_steps(stage, part + 1, PARTS)
    else:
        stride = SAMPLE * PARTS
        await enumerate_steps(stage, 1 + (SEED + SAMPLE * part) % stride, stride)


@pytest.mark.parametrize("setting", [two_tools, a_sub_agent, hooks_and_a_repair])
async def test_the_successor_dies_too(
    talks: Talks, workers: DyingWorkers, setting: Setting
) -> None:
    stage = await setting(talks, workers)
    whole = await undisturbed(stage)
    steps = whole.deaths[0].steps
    drawn = random.Random(SEED)
    faults = {}
    for _ in range(PAIRS):
        first = drawn.randint(1, steps)
        # What the first one did is not done again, but read back.
        second = drawn.randint(1, max(60, steps - first))
        if wrong := faults_of(await stage.play(first, second), whole):
            faults[first, second] = wrong
    assert faults == {}, f"SINAS_AWAIT_SEED={SEED}"
