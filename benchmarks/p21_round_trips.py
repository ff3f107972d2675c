"""P21: database statements per authenticated read, and to build a turn's context."""

import asyncio
import re
from dataclasses import dataclass
from pathlib import Path

from benchmarks.harness.database import fetch
from benchmarks.harness.row import Goal, Round, Row, main
from benchmarks.harness.stack import Stack
from benchmarks.harness.turns import new_chat, run_turn

READS = 20
_SETTLE_SECONDS = 2.5
_ENTRY = re.compile(r"\[(\d+)\] LOG:  (?:statement|execute [^:]+): (.+)")
_WRITE = re.compile(r"^(INSERT|UPDATE|DELETE)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Statement:
    """One statement as the server logged it: which of its processes, and the first line."""

    backend: str
    text: str


class ServerLog:
    """What PostgreSQL logs from now on."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._from = path.stat().st_size

    def statements(self) -> list[Statement]:
        """All statements since, in order, BEGIN and COMMIT included."""
        with self._path.open("rb") as file:
            file.seek(self._from)
            text = file.read().decode(errors="replace")
        return [Statement(m[1], m[2].strip()) for m in _ENTRY.finditer(text)]


async def log_all(stack: Stack, *, on: bool) -> None:
    """Have the server log every statement, also in sessions that are open already."""
    await fetch(stack, f"ALTER SYSTEM SET log_statement = '{'all' if on else 'none'}'")
    await fetch(stack, "SELECT pg_reload_conf()")
    await asyncio.sleep(0.3)


def of_requests(statements: list[Statement], background: list[Statement]) -> list[Statement]:
    """Without what the platform does anyway.

    Sweeps and leases have transactions of their own, so the backends that ran them lose the
    whole transaction: from its BEGIN to its end.
    """
    known = {each.text for each in background if not _is_frame(each)}
    open_frames: dict[str, list[Statement]] = {}
    kept: list[Statement] = []
    for each in statements:
        if each.text.upper().startswith("BEGIN"):
            open_frames[each.backend] = [each]
        elif each.backend in open_frames:
            frame = open_frames[each.backend]
            frame.append(each)
            if _is_frame(each):
                del open_frames[each.backend]
                if not any(one.text in known for one in frame):
                    kept += frame
        elif each.text not in known and not _is_frame(each):
            kept.append(each)
    return kept


def _is_frame(statement: Statement) -> bool:
    return statement.text.upper().startswith(("BEGIN", "COMMIT", "ROLLBACK"))


async def read_statements(
    stack: Stack, path: str, background: list[Statement]
) -> tuple[float, bool]:
    """Statements per request of a warm read, and whether one of them writes."""
    connection = await stack.server.connect()
    for _ in range(40):  # every pooled connection has prepared the statement by then
        await connection.request("GET", path)
    await asyncio.sleep(0.2)
    log = _log(stack)
    for _ in range(READS):
        answer = await connection.request("GET", path)
        assert answer.status == 200
    await asyncio.sleep(0.2)
    connection.close()
    found = of_requests(log.statements(), background)
    return len(found) / READS, any(_WRITE.match(each.text) for each in found)


async def turn_statements(stack: Stack, background: list[Statement]) -> tuple[int, list[str]]:
    """Statements between a worker's claim of a turn and the request to the model, and all."""
    path = await new_chat(stack.server, "tool")
    connection = await stack.server.connect()
    await run_turn(connection, path)
    await asyncio.sleep(0.3)
    log = _log(stack)
    await run_turn(connection, path)
    await asyncio.sleep(0.3)
    connection.close()
    texts = [each.text for each in of_requests(log.statements(), background)]
    claim = next(n for n, text in enumerate(texts) if "fence" in text and "UPDATE turns" in text)
    rest = iter(texts[claim + 1 :])
    built = 0
    for text in rest:
        if text.upper().startswith("COMMIT") and not built:
            continue  # the claim's own
        if _WRITE.match(text) or "tool_calls.call_id" in text:
            break  # the model has answered
        built += 1
    return built, texts


def _log(stack: Stack) -> ServerLog:
    return ServerLog(stack.processes.data_dir / "logs" / "postgres.log")


async def measure(stack: Stack) -> Round:
    await log_all(stack, on=True)
    try:
        log = _log(stack)
        await asyncio.sleep(_SETTLE_SECONDS)
        background = log.statements()
        me, me_writes = await read_statements(stack, "/auth/me", background)
        agent, agent_writes = await read_statements(stack, "/api/v1/agents/bench/words", background)
        built, texts = await turn_statements(stack, background)
    finally:
        await log_all(stack, on=False)
    figures = {
        "read": agent,
        "GET /auth/me": me,
        "writes": float(me_writes or agent_writes),
        "context": float(built),
        "whole tool turn": float(len(texts)),
    }
    return Round(figures, notes={"tool turn": [text[:100] for text in texts]})


ROW = Row(
    id="P21",
    what="statements per authenticated read; per turn context",
    how="Logged by the server (`log_statement = all`), BEGIN and COMMIT counted: "
    "`GET /api/v1/agents/bench/words`; and everything between a worker's claim of a turn with "
    "tools and what it does with the model's answer.",
    goals=(
        Goal("read", "<=", 2, ""),
        Goal("writes", "=", 0, ""),
        Goal("context", "<=", 3, ""),
    ),
    measure=measure,
    rounds=1,
)

if __name__ == "__main__":
    main(ROW)
