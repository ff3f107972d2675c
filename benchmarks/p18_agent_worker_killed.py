"""P18: the agent worker is killed in the middle of a turn."""

import asyncio

from benchmarks.harness.kill import kill, wait_back
from benchmarks.harness.load import WorkFailedError
from benchmarks.harness.row import Goal, Round, Row, main
from benchmarks.harness.stack import Stack
from benchmarks.harness.turns import new_chat, run_turn, text_of

WHOLE = "".join(f"w{number:02d} " for number in range(50))
MID_TURN_SECONDS = 0.5


async def measure(stack: Stack) -> Round:
    path = await new_chat(stack.server, "slow")
    connection = await stack.server.connect()
    old = stack.processes.part("agents").pid
    failures: list[str] = []
    seconds = float("inf")
    async with asyncio.TaskGroup() as group:
        turn = group.create_task(run_turn(connection, path))
        await asyncio.sleep(MID_TURN_SECONDS)
        killed = kill(stack, "agents")
        await asyncio.wait([turn])
        try:
            answer = turn.result()
        except (WorkFailedError, ConnectionError) as error:
            failures.append(str(error))
        else:
            seconds = answer.done - killed
            if text_of(answer) != WHOLE:
                failures.append("the text is not whole")
    connection.close()
    await wait_back(stack, "agents", old)
    return Round({"s": seconds}, failures)


ROW = Row(
    id="P18",
    what="agent worker killed mid-turn → turn completed",
    how="A turn of 50 chunks, 20 ms apart; SIGKILL after 0.5 s; until the same stream ends with "
    "`done` and holds every word once.",
    goals=(Goal("s", "<=", 10, "s"),),
    measure=measure,
)

if __name__ == "__main__":
    main(ROW)
