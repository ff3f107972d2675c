"""Embedders: the offline model for real, and one that speaks OpenAI's protocol."""

import asyncio
import math

import orjson
import pytest
from pydantic import ValidationError

from sinas.egress.client import GuardedClient
from sinas.egress.policy import EgressPolicy
from sinas.errors import UpstreamError
from sinas.kit.addresses import parse_networks
from sinas.search.embedding.base import Vector
from sinas.search.embedding.local import LocalEmbedder
from sinas.search.embedding.openai import OpenAiEmbedder
from sinas.search.embedding.opening import open_embedder
from sinas.settings import SearchSettings
from tests.support.outside import Outside


@pytest.fixture
async def local():
    embedder = LocalEmbedder()
    yield embedder
    await embedder.aclose()


def near(one: Vector, other: Vector) -> float:
    return sum(a * b for a, b in zip(one, other, strict=True))


class TestLocal:
    async def test_it_is_the_published_model(self, local: LocalEmbedder) -> None:
        """Against the numbers in the model's own documentation."""
        one, other = await local.embed(
            ["This is an example sentence", "Each sentence is converted"]
        )
        assert one[:3] == pytest.approx([6.76569e-02, 6.34959e-02, 4.87131e-02], abs=1e-5)
        assert other[:3] == pytest.approx([8.64386e-02, 1.02763e-01, 5.39456e-03], abs=1e-5)
        assert len(one) == local.dimensions
        assert math.hypot(*one) == pytest.approx(1)

    async def test_meaning_beats_words(self, local: LocalEmbedder) -> None:
        question, answer, words = await local.embed(
            [
                "How do I get my money back?",
                "Refunds are paid within two weeks of returning the goods.",
                "Money makes the world go round, so go back and get some.",
            ]
        )
        assert near(question, answer) > near(question, words)

    async def test_a_text_means_the_same_alone_and_among_others(self, local: LocalEmbedder) -> None:
        texts = ["short", "a much longer text " * 60, "", "漢字", "\ud7ff e", "middle " * 20]
        together = await local.embed(texts)
        for text, vector in zip(texts, together, strict=True):
            (alone,) = await local.embed([text])
            assert near(alone, vector) == pytest.approx(1, abs=1e-4)

    async def test_many_ask_at_once(self, local: LocalEmbedder) -> None:
        texts = [f"question {number}" for number in range(8)]
        answers = await asyncio.gather(*(local.embed([text]) for text in texts))  # noqa: TID251
        expected = await local.embed(texts)
        for (answer,), vector in zip(answers, expected, strict=True):
            assert near(answer, vector) == pytest.approx(1, abs=1e-4)

    async def test_it_comes_back_when_its_process_died(self, local: LocalEmbedder) -> None:
        (before,) = await local.embed(["text"])
        assert local._process is not None
        local._process.kill()
        (after,) = await local.embed(["text"])
        assert list(after) == list(before)

    async def test_a_caller_that_gives_up_spoils_no_other_answer(
        self, local: LocalEmbedder
    ) -> None:
        (expected,) = await local.embed(["the second question"])
        slow = asyncio.ensure_future(local.embed(["word " * 300] * 64))
        await asyncio.sleep(0.1)
        slow.cancel()
        with pytest.raises(asyncio.CancelledError):
            await slow
        (answer,) = await local.embed(["the second question"])
        assert list(answer) == list(expected)

    async def test_nothing_asked_starts_nothing(self, local: LocalEmbedder) -> None:
        assert await local.embed([]) == []
        assert local._process is None


def answer(value: object, status: str = "200 OK", *headers: str) -> bytes:
    body = orjson.dumps(value)
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers, "", ""]
    return "\r\n".join(lines).encode() + body


def vectors(*numbers: list[float]) -> bytes:
    data = [{"index": index, "embedding": one} for index, one in enumerate(numbers)]
    return answer({"data": data[::-1]})  # in any order, says the protocol


@pytest.fixture
async def server():
    async with Outside() as server:
        yield server


@pytest.fixture
async def remote(server: Outside):
    http = GuardedClient(EgressPolicy(parse_networks("127.0.0.1")), server.trust)
    remote = OpenAiEmbedder(
        http, endpoint=f"{server.url}/v1/", key="sk-secret", model="text-embedding-3-small",
        dimensions=3, shortens=True,
    )  # fmt: skip
    yield remote
    await remote.aclose()


class TestOpenAi:
    async def test_asks_as_the_protocol_wants(
        self, server: Outside, remote: OpenAiEmbedder
    ) -> None:
        server.answer = vectors([3, 0, 4], [0, 1, 0])
        one, other = await remote.embed(["first", ""])
        assert (list(one), list(other)) == ([0.6, 0, 0.8], [0, 1, 0])
        (seen,) = server.received
        assert seen.target == "/v1/embeddings"
        assert seen.headers["authorization"] == "Bearer sk-secret"
        assert seen.json() == {
            "model": "text-embedding-3-small",
            "encoding_format": "float",
            "dimensions": 3,
            "input": ["first", " "],
        }

    async def test_waits_as_it_is_asked_and_asks_again(
        self, server: Outside, remote: OpenAiEmbedder
    ) -> None:
        busy = answer({}, "429 Too Many", "Retry-After: 0")
        server.answers = [busy, answer({}, "503 Busy", "Retry-After: nan"), vectors([1, 0, 0])]
        assert [list(one) for one in await remote.embed(["a"])] == [[1, 0, 0]]

    @pytest.mark.parametrize(
        ("bad", "message"),
        [
            (answer({"error": "sk-secret is wrong"}, "401 No"), "status 401"),
            (answer([]), "format"),
            (answer({"data": [{"index": 0, "embedding": ["x"]}]}), "format"),
            (answer({"data": [{"index": 0, "embedding": None}]}), "format"),
            (vectors([1, 0]), "SEARCH_EMBEDDING_DIMENSIONS"),
            (vectors([0, 0, 0]), "direction"),
            (vectors([1, 0, 0], [1, 0, 0]), "too few or many"),
        ],
    )
    async def test_a_bad_answer(
        self, server: Outside, remote: OpenAiEmbedder, bad: bytes, message: str
    ) -> None:
        server.answer = bad
        with pytest.raises(UpstreamError, match=message) as caught:
            await remote.embed(["a"])
        assert "sk-secret" not in str(caught.value)


class TestOpening:
    async def test_none(self) -> None:
        assert open_embedder(SearchSettings(embedding_provider="none")) is None

    async def test_a_private_server_that_the_operator_named(self) -> None:
        async with Outside(tls=False) as server:
            embedder = open_embedder(
                SearchSettings(
                    embedding_provider="openai",
                    embedding_endpoint=f"{server.url}/v1",
                    embedding_model="minilm",
                    embedding_dimensions=384,
                )
            )
            assert embedder is not None
            server.answer = vectors([1.0] + [0.0] * 383)
            assert [list(one)[:1] for one in await embedder.embed(["a"])] == [[1]]
            await embedder.aclose()
            (seen,) = server.received
            assert "dimensions" not in seen.json()
            assert "authorization" not in seen.headers

    @pytest.mark.parametrize(
        "endpoint", ["", "ftp://x", "https://", "http://[x", "//a", "http://a:x"]
    )
    def test_no_url(self, endpoint: str) -> None:
        with pytest.raises(ValidationError, match="must be an http"):
            SearchSettings(embedding_endpoint=endpoint)

    def test_no_index_of_that_size(self) -> None:
        with pytest.raises(ValidationError, match="384, 512"):
            SearchSettings(embedding_dimensions=385)
