"""P9: failed or cut streams of 128, 64 clients."""

from benchmarks.harness.http import Connection
from benchmarks.harness.load import WorkFailedError, run_load
from benchmarks.harness.row import Goal, Round, Row, main, round_of
from benchmarks.harness.stack import Stack
from benchmarks.harness.turns import new_chats, run_turn, text_of

CLIENTS = 64
EACH = 2
WHOLE = "".join(f"w{number:02d} " for number in range(50))


async def measure(stack: Stack) -> Round:
    paths = await new_chats(stack.server, "words", CLIENTS)

    async def turn(connection: Connection, client: int) -> float:
        answer = await run_turn(connection, paths[client])
        if (text := text_of(answer)) != WHOLE:
            raise WorkFailedError(f"the text is not whole: {text[-60:]!r}")
        return answer.seconds

    sample = await run_load(stack.server, turn, clients=CLIENTS, each=EACH, warm_up=0)
    result = round_of(sample)
    result.figures["failed"] = len(sample.failures)
    return result


ROW = Row(
    id="P9",
    what="128 streams by 64 clients: failed or cut",
    how="All 64 connect and begin at once; a stream counts as whole when it has every word "
    "once and ends with `done`.",
    goals=(Goal("failed", "=", 0, ""),),
    measure=measure,
)

if __name__ == "__main__":
    main(ROW)
