"""500 streams open at one API process at the same time."""

import asyncio

from benchmarks.harness.http import Answer, Connection
from benchmarks.harness.load import WorkFailedError
from benchmarks.harness.row import Goal, Round, Row, main
from benchmarks.harness.stack import Stack
from benchmarks.harness.turns import first_content, new_chats, run_turn, text_of

STREAMS = 500
WHOLE = "".join(f"w{number:02d} " for number in range(50))


async def measure(stack: Stack) -> Round:
    paths = await new_chats(stack.server, "slow", STREAMS)
    connections = [await stack.server.connect() for _ in paths]
    failures: list[str] = []
    answers: list[Answer] = []
    api = stack.processes.part("api")
    memory: list[int] = []

    async def turn(connection: Connection, path: str) -> None:
        try:
            answer = await run_turn(connection, path)
        except (WorkFailedError, ConnectionError) as error:
            failures.append(str(error))
            return
        if (text := text_of(answer)) != WHOLE:
            failures.append(f"the text is not whole: {text[-60:]!r}")
        answers.append(answer)
        memory.append(api.memory_info().rss)

    async with asyncio.TaskGroup() as group:
        for connection, path in zip(connections, paths, strict=True):
            group.create_task(turn(connection, path))
    for connection in connections:
        connection.close()
    firsts = sorted(first_content(answer) - answer.sent for answer in answers)
    wholes = sorted(answer.seconds for answer in answers)
    figures = {"failed": float(len(failures))}
    if wholes:
        figures["api RSS MB"] = max(memory) / 2**20
        figures["open at once"] = float(_most_open(answers))
        figures["first content s"] = firsts[len(firsts) // 2]
        figures["last end s"] = wholes[-1]
    return Round(figures, failures)


def _most_open(answers: list[Answer]) -> int:
    """How many streams had been opened and not ended, at the fullest moment."""
    changes = [(answer.opened, 1) for answer in answers]
    changes += [(answer.done, -1) for answer in answers]
    open_now = most = 0
    for _, change in sorted(changes):
        open_now += change
        most = max(most, open_now)
    return most


ROW = Row(
    id="S2",
    what="500 streams open at one API process: failed or cut",
    how="500 chats post a message at once, over 500 connections; the model needs a second for its "
    "50 chunks. A stream counts as whole when it has every word once and ends with `done`; "
    "`open at once` counts those whose headers had come and whose end had not.",
    goals=(Goal("failed", "=", 0, ""),),
    measure=measure,
)

if __name__ == "__main__":
    main(ROW)
