"""P6 and P22: failures and growth of memory over 10,000 calls and 2,000 turns."""

import asyncio

from benchmarks.harness.calls import echo
from benchmarks.harness.http import Connection
from benchmarks.harness.load import Sample, run_load
from benchmarks.harness.processes import PARTS
from benchmarks.harness.row import Goal, Round, Row, main
from benchmarks.harness.stack import Stack
from benchmarks.harness.turns import new_chats, run_turn

CLIENTS = 8
WARM = 200
CALLS = 10_000
TURNS = 2_000
TURNS_PER_CHAT = 20
# Of PostgreSQL's, which fills its page cache, no part leaks with the number of calls.
OURS = tuple(part for part in PARTS if part not in ("postgres", "redis"))


async def _calls(stack: Stack, count: int) -> Sample:
    return await run_load(stack.server, echo, clients=CLIENTS, each=count // CLIENTS, warm_up=0)


async def _turns(stack: Stack, count: int) -> Sample:
    """Turns in chats of equal length, so that no turn is dearer for being a late one."""
    failures: list[str] = []
    done = Sample()
    for _ in range(count // (CLIENTS * TURNS_PER_CHAT) or 1):
        paths = await new_chats(stack.server, "words", CLIENTS)

        async def turn(connection: Connection, client: int, paths: list[str] = paths) -> float:
            return (await run_turn(connection, paths[client])).seconds

        part = await run_load(stack.server, turn, clients=CLIENTS, each=TURNS_PER_CHAT, warm_up=0)
        done.values += part.values
        failures += part.failures
    done.failures = failures
    return done


async def _memory(stack: Stack) -> dict[str, float]:
    await asyncio.sleep(2)
    return {part: stack.processes.memory(part).pss for part in OURS}


async def measure(stack: Stack) -> Round:
    await _calls(stack, WARM)
    await _turns(stack, WARM)
    before = await _memory(stack)
    calls = await _calls(stack, CALLS)
    turns = await _turns(stack, TURNS)
    after = await _memory(stack)
    grown = 100 * (sum(after.values()) / sum(before.values()) - 1)
    failures = calls.failures + turns.failures
    figures = {
        "failed calls": float(len(calls.failures)),
        "failed turns": float(len(turns.failures)),
        "growth %": grown,
        "calls /s": calls.rate,
    }
    notes: dict[str, object] = {
        part: f"{before[part]:.0f} -> {after[part]:.0f} MB" for part in OURS
    }
    return Round(figures, failures, notes)


ROW = Row(
    id="P6, P22",
    what="10,000 calls and 2,000 turns: failures, growth of memory",
    how="8 clients; PSS of the platform's own processes after 200 calls and 200 turns, and again "
    "after 10,000 calls and 2,000 turns more.",
    goals=(
        Goal("growth %", "<=", 5, "%"),
        Goal("failed calls", "=", 0, ""),
        Goal("failed turns", "=", 0, ""),
    ),
    measure=measure,
    rounds=1,
)

if __name__ == "__main__":
    main(ROW)
