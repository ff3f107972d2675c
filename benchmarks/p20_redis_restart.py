"""P20: Redis is killed, and started again, in the middle of a turn."""

import asyncio

from benchmarks.harness.kill import kill, wait_back
from benchmarks.harness.load import WorkFailedError
from benchmarks.harness.row import Goal, Round, Row, main
from benchmarks.harness.stack import Stack
from benchmarks.harness.turns import new_chats, run_turn, text_of

TURNS = 8
WHOLE = "".join(f"w{number:02d} " for number in range(50))
MID_TURN_SECONDS = 0.5


async def measure(stack: Stack) -> Round:
    paths = await new_chats(stack.server, "slow", TURNS)
    connections = [await stack.server.connect() for _ in paths]
    agents = stack.processes.part("agents").pid
    redis = stack.processes.part("redis").pid
    async with asyncio.TaskGroup() as group:
        turns = [
            group.create_task(run_turn(connection, path))
            for connection, path in zip(connections, paths, strict=True)
        ]
        await asyncio.sleep(MID_TURN_SECONDS)
        killed = kill(stack, "redis")
        await asyncio.wait(turns)
    failures: list[str] = []
    seconds = 0.0
    for turn in turns:
        try:
            answer = turn.result()
        except (WorkFailedError, ConnectionError) as error:
            failures.append(str(error))
            continue
        seconds = max(seconds, answer.done - killed)
        if (text := text_of(answer)) != WHOLE:
            failures.append(f"the text is not whole: {text!r}")
    for connection in connections:
        connection.close()
    await wait_back(stack, "redis", redis)
    workers = float(stack.processes.part("agents").pid != agents)
    return Round({"lost": float(len(failures)), "workers lost": workers, "s": seconds}, failures)


ROW = Row(
    id="P20",
    what="Redis killed and restarted mid-stream: turns lost",
    how="Eight turns of 50 chunks, 20 ms apart; SIGKILL to Redis after 0.5 s, the supervisor "
    "starts it again; until the same streams end with `done` and hold every word once.",
    goals=(Goal("lost", "=", 0, ""), Goal("workers lost", "=", 0, "")),
    measure=measure,
)

if __name__ == "__main__":
    main(ROW)
