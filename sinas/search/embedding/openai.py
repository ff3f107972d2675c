"""Embeddings of a provider that speaks OpenAI's protocol."""

import asyncio
import math
from collections.abc import Sequence

import orjson

from sinas.egress.client import Answer, GuardedClient
from sinas.errors import UpstreamError
from sinas.kit.json_types import JsonObject
from sinas.search.embedding.base import Vector

_ATTEMPTS = 4
_RETRIED = frozenset({408, 409, 429, 500, 502, 503, 504})
_LONGEST_WAIT_SECONDS = 20.0
# 8,191 tokens are OpenAI's limit of a text; this many characters are fewer in any language.
_MOST_CHARS = 6000


class OpenAiEmbedder:
    """Sends texts to `{endpoint}/embeddings`, through the guarded client.

    Args:
        http: Its own, and closed with it.
        endpoint: With `/v1`, as OpenAI's SDKs want it.
        key: Sent as a bearer token; empty sends none.
        model: The provider's name for it.
        dimensions: What vectors must have; asked for, too, where `shortens`.
        shortens: Whether the provider takes `dimensions`.
    """

    batch = 64

    def __init__(
        self,
        http: GuardedClient,
        *,
        endpoint: str,
        key: str,
        model: str,
        dimensions: int,
        shortens: bool,
    ) -> None:
        self._http = http
        self._url = f"{endpoint.rstrip('/')}/embeddings"
        self._headers = {"Content-Type": "application/json"}
        if key:
            self._headers["Authorization"] = f"Bearer {key}"
        self._asked: JsonObject = {"model": model, "encoding_format": "float"}
        if shortens:
            self._asked["dimensions"] = dimensions
        self.model = model
        self.dimensions = dimensions

    async def embed(self, texts: Sequence[str]) -> list[Vector]:
        if not texts:
            return []
        # An empty text is refused by some.
        asked = [text[:_MOST_CHARS] or " " for text in texts]
        body = orjson.dumps({**self._asked, "input": asked})
        answer = await self._sent(body)
        for attempt in range(1, _ATTEMPTS):
            if answer.status not in _RETRIED:
                break
            await asyncio.sleep(_wait_seconds(answer, attempt))
            answer = await self._sent(body)
        if answer.status != 200:
            raise UpstreamError(
                f"The embedding provider answered with status {answer.status}.",
                status=answer.status,
            )
        return self._vectors(answer.body, len(texts))

    async def _sent(self, body: bytes) -> Answer:
        return await self._http.request(
            "POST",
            self._url,
            headers=self._headers,
            content=body,
            timeout_seconds=60,
            max_bytes=64 * 1024 * 1024,
        )

    async def aclose(self) -> None:
        """Close the client."""
        await self._http.aclose()

    def _vectors(self, body: bytes, count: int) -> list[Vector]:
        try:
            items = sorted(orjson.loads(body)["data"], key=lambda item: item["index"])
            vectors = [[float(number) for number in item["embedding"]] for item in items]
        except (orjson.JSONDecodeError, KeyError, TypeError, ValueError) as error:
            raise UpstreamError(
                "The embedding provider's answer is not OpenAI's format."
            ) from error
        if len(vectors) != count:
            raise UpstreamError("The embedding provider answered with too few or many vectors.")
        return [self._unit(vector) for vector in vectors]

    def _unit(self, vector: list[float]) -> Vector:
        if len(vector) != self.dimensions:
            raise UpstreamError(
                f"The embedding provider's vectors have {len(vector)} dimensions; set "
                f"SEARCH_EMBEDDING_DIMENSIONS, now {self.dimensions}, to that."
            )
        length = math.hypot(*vector)
        if not math.isfinite(length) or length == 0:
            raise UpstreamError("The embedding provider answered with a vector without direction.")
        return [number / length for number in vector]


def _wait_seconds(answer: Answer, attempt: int) -> float:
    try:
        asked = float(answer.headers.get("retry-after", ""))
    except ValueError:
        asked = 0.5 * 2**attempt
    return min(max(asked, 0.1), _LONGEST_WAIT_SECONDS) if asked == asked else 1.0  # noqa: PLR0124
