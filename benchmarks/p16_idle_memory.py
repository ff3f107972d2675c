"""P16: memory of an idle platform."""

import asyncio

from benchmarks.harness.processes import PARTS
from benchmarks.harness.row import Goal, Round, Row, main
from benchmarks.harness.stack import Stack


async def measure(stack: Stack) -> Round:
    await asyncio.sleep(3)
    parts = {name: stack.processes.memory(name) for name in PARTS}
    figures = {
        "api RSS MB": parts["api"].rss,
        "api PSS MB": parts["api"].pss,
        "whole PSS MB": sum(part.pss for part in parts.values()),
        "whole RSS MB": sum(part.rss for part in parts.values()),
    }
    return Round(figures, notes={name: round(part.pss, 1) for name, part in parts.items()})


ROW = Row(
    id="P16",
    what="idle memory: API process; whole stack without containers",
    how="RSS and PSS (shared pages divided among their users) from /proc, in MiB; PSS is the "
    "figure that may be added up, so it decides for the whole stack; RSS decides for the API.",
    goals=(Goal("api RSS MB", "<=", 130, "MB"), Goal("whole PSS MB", "<=", 500, "MB")),
    measure=measure,
)

if __name__ == "__main__":
    main(ROW)
