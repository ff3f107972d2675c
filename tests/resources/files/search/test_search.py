"""Search over HTTP: what is found, by whom, and what is refused."""

from collections.abc import Sequence
from typing import Any
from uuid import uuid4

import httpx
import pytest
from sqlalchemy import text

from sinas.context import AppContext
from sinas.resources.files import search_queries
from sinas.resources.files.repository import own_or_shared
from sinas.resources.files.search_queries import Scope
from tests.fixtures.client import SignIn
from tests.resources.files.search.world import SearchWorld, names, search
from tests.search import documents as made

REFUNDS = "# Returns\n\nHow it works.\n\nRefunds are paid within 14 days of returning the goods.\n"
CATS = "The cat sat on the mat.\nDogs are running in the park.\nThe end.\n"


@pytest.fixture
async def filled(world: SearchWorld, as_: SignIn) -> SearchWorld:
    user = await as_.user("user")
    await world.upload(user, "refunds.md", REFUNDS, metadata={"year": 2026, "tags": ["a", "b"]})
    await world.upload(user, "cats.txt", CATS, metadata={"year": 2025, "of": {"x": 1}})
    return world


class TestRegex:
    async def test_lines_with_what_is_around_them(self, filled: SearchWorld, as_: SignIn) -> None:
        (found,) = await search(await as_("user"), query=r"dogs\s+are")
        assert found["filename"] == "cats.txt"
        assert found["version"] == 1
        assert found["matches"] == [
            {
                "line": 2,
                "end_line": 2,
                "text": "Dogs are running in the park.",
                "context": CATS.split("\n")[:3],
                "page": None,
                "headings": None,
                "score": None,
            }
        ]

    async def test_names(self, filled: SearchWorld, as_: SignIn) -> None:
        (found,) = await search(await as_("user"), query=r"^cats\.")
        assert (found["filename"], found["matches"]) == ("cats.txt", [])

    async def test_a_text_file_that_is_not_indexed_yet(
        self, filled: SearchWorld, as_: SignIn
    ) -> None:
        user = await as_.user("user")
        await filled.upload(user, "new.txt", "brand new", indexed=False)
        await filled.upload(user, "new.png", b"brand new", content_type="image/png", indexed=False)
        assert await names(await as_("user"), query="brand") == ["new.txt"]

    async def test_what_is_in_a_pdf(self, filled: SearchWorld, as_: SignIn) -> None:
        pdf = made.pdf_file("Nothing here", "Page with zebras")
        await filled.upload(await as_.user("user"), "a.pdf", pdf, content_type="application/pdf")
        (found,) = await search(await as_("user"), query="zebra")
        assert found["matches"][0]["text"] == "Page with zebras"

    async def test_limit_counts_what_is_found(self, world: SearchWorld, as_: SignIn) -> None:
        user = await as_.user("user")
        for number in range(30):
            content = "needle" if number > 24 else "hay"
            await world.upload(user, f"{number:02}.txt", content, indexed=False)
        client = await as_("user")
        assert await names(client, query="needle", limit=2) == ["25.txt", "26.txt"]
        assert len(await names(client, query="needle")) == 5

    @pytest.mark.parametrize("query", ["(", "(?=a)", r"(a)\1", "((a{1000}){1000}){1000}"])
    async def test_no_regular_expression(
        self, filled: SearchWorld, as_: SignIn, query: str
    ) -> None:
        client = await as_("user")
        answer = await client.post("/files/docs/handbook/search", json={"query": query})
        assert answer.status_code == 400
        assert answer.json()["errors"][0]["field"] == "query"

    async def test_a_catastrophe_elsewhere(self, filled: SearchWorld, as_: SignIn) -> None:
        await filled.upload(await as_.user("user"), "a.txt", ("a" * 2000 + "!\n") * 50)
        assert await names(await as_("user"), query="(a+)+$") == []


class TestNameAndFilter:
    async def test_words_of_the_name(self, filled: SearchWorld, as_: SignIn) -> None:
        client = await as_("user")
        assert await names(client, query="CAT", mode="name") == ["cats.txt"]
        assert await names(client, query="txt cat", mode="name") == ["cats.txt"]
        assert await names(client, query="cat md", mode="name") == []
        assert await names(client, query="%", mode="name") == []

    async def test_without_a_query(self, filled: SearchWorld, as_: SignIn) -> None:
        client = await as_("user")
        for query in (None, "", "  "):
            assert await names(client, query=query) == ["cats.txt", "refunds.md"]
        assert await names(client, limit=1) == ["cats.txt"]

    @pytest.mark.parametrize(
        ("wanted", "expected"),
        [
            ({"year": 2026}, ["refunds.md"]),
            ({"year": "2026"}, []),
            ({"tags": ["b"]}, ["refunds.md"]),
            ({"of": {"x": 1}}, ["cats.txt"]),
            ({"year": 2026, "tags": ["c"]}, []),
            ({}, ["cats.txt", "refunds.md"]),
        ],
    )
    async def test_metadata(
        self, filled: SearchWorld, as_: SignIn, wanted: dict[str, object], expected: Sequence[str]
    ) -> None:
        client = await as_("user")
        assert await names(client, metadata_filter=wanted) == expected
        for mode in ("regex", "text", "semantic"):
            query = "the" if mode == "regex" else "goods or cat"
            found = await names(client, metadata_filter=wanted, query=query, mode=mode)
            assert set(found) == set(expected)


class TestText:
    async def test_words_in_their_forms(self, filled: SearchWorld, as_: SignIn) -> None:
        client = await as_("user")
        (found,) = await search(client, query="run dog", mode="text")
        assert found["filename"] == "cats.txt"
        (match,) = found["matches"]
        assert (match["line"], match["end_line"], match["text"]) == (1, 3, CATS.strip())
        assert match["score"] > 0
        assert await names(client, query="refund", mode="text") == ["refunds.md"]
        assert await names(client, query='"paid within"', mode="text") == ["refunds.md"]
        assert await names(client, query='"within paid"', mode="text") == []
        assert await names(client, query="refund or dog", mode="text") != []
        assert await names(client, query="the", mode="text") == ["cats.txt", "refunds.md"]

    @pytest.mark.parametrize("query", ["'", '"', "a & | !", "\\", ":*", "<->", "-", "\u2028"])
    async def test_no_query_breaks_it(self, filled: SearchWorld, as_: SignIn, query: str) -> None:
        await search(await as_("user"), query=query, mode="text")

    async def test_the_better_one_is_first(self, filled: SearchWorld, as_: SignIn) -> None:
        user = await as_.user("user")
        await filled.upload(user, "a.txt", "cat " + "filler " * 100)
        await filled.upload(user, "z.txt", "cat cat cat")
        found = await names(await as_("user"), query="cat", mode="text", limit=2)
        assert found[0] == "z.txt"


class TestSemantic:
    async def test_meaning(self, filled: SearchWorld, as_: SignIn) -> None:
        found = await search(
            await as_("user"), query="When do I get my money back?", mode="semantic", limit=1
        )
        (match,) = found[0]["matches"]
        assert found[0]["filename"] == "refunds.md"
        assert match["headings"] == "Returns"
        assert 0 < match["score"] <= 1

    async def test_by_the_index_as_by_comparing(
        self, filled: SearchWorld, as_: SignIn, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        user = await as_.user("user")
        for number in range(10):
            await filled.upload(
                user, f"{number}.txt", f"Topic number {number}", visibility="private"
            )
        for who in ("user", "other"):
            client = await as_(who)
            exact = await search(client, query="topic number seven", mode="semantic", limit=5)
            monkeypatch.setattr(search_queries, "_EXACT_UP_TO", 0)
            assert (
                await search(client, query="topic number seven", mode="semantic", limit=5) == exact
            )
            monkeypatch.undo()
            assert len(exact) == (5 if who == "user" else 2)

    async def test_the_index_can_answer_it(self, filled: SearchWorld, context: AppContext) -> None:
        """The statement's expression and condition must be the index's, to the letter."""
        assert context.embedder is not None
        scope = Scope(
            collection_id=filled.collection_id, visible=own_or_shared(uuid4()), metadata_filter={}
        )
        (vector,) = await context.embedder.embed(["cat"])
        plans = []
        for is_exact in (False, True):
            statement = search_queries.nearest(
                scope, vector, context.embedder, 5, is_exact=is_exact
            ).compile(dialect=context.engine.dialect)
            processors: Any = statement._bind_processors
            values = [
                processors.get(name, lambda value: value)(statement.params[name])
                for name in statement.positiontup or ()
            ]
            async with context.unit() as unit:
                await unit.session.execute(text("SET LOCAL enable_seqscan = off"))
                await unit.session.execute(text("SET LOCAL enable_sort = off"))
                connection = await unit.session.connection()
                rows = await connection.exec_driver_sql(f"EXPLAIN {statement}", tuple(values))
                plans.append("\n".join(rows.scalars()))
        assert "ix_file_chunks_embedding_384" in plans[0]
        assert "ix_file_chunks_embedding_384" not in plans[1]

    async def test_it_is_off(self, filled: SearchWorld, as_: SignIn, context: AppContext) -> None:
        embedder = context.embedder
        object.__setattr__(context, "embedder", None)
        try:
            answer = await (await as_("user")).post(
                "/files/docs/handbook/search", json={"query": "a", "mode": "semantic"}
            )
        finally:
            object.__setattr__(context, "embedder", embedder)
        assert answer.status_code == 503
        assert "SEARCH_EMBEDDING_PROVIDER" in answer.json()["detail"]


MODES = ("regex", "name", "text", "semantic")


class TestSpelling:
    """An é is one character or two: macOS and many PDF files write two, most keyboards one."""

    @pytest.mark.parametrize(
        "query", ["r\u00e9sum\u00e9", "re\u0301sume\u0301"], ids=["one", "two"]
    )
    @pytest.mark.parametrize(
        ("mode", "found"),
        [
            ("regex", ["a.txt", "b.txt", "r\u00e9sum\u00e9.txt"]),
            ("name", ["r\u00e9sum\u00e9.txt"]),
            ("text", ["a.txt", "b.txt"]),
        ],
        ids=["regex", "name", "text"],
    )
    async def test_is_the_same_in_queries_names_and_texts(
        self, world: SearchWorld, as_: SignIn, mode: str, query: str, found: list[str]
    ) -> None:
        user = await as_.user("user")
        await world.upload(user, "a.txt", "my r\u00e9sum\u00e9 is here")
        await world.upload(user, "b.txt", "my re\u0301sume\u0301 is here")
        await world.upload(user, "re\u0301sume\u0301.txt", "nothing")
        assert sorted(await names(await as_("user"), query=query, mode=mode)) == found

    async def test_lines_are_shown_as_the_file_has_them(
        self, world: SearchWorld, as_: SignIn
    ) -> None:
        text = "first\nthe re\u0301sume\u0301\nlast"
        await world.upload(await as_.user("user"), "a.txt", text, indexed=False)
        (file,) = await search(await as_("user"), query="r\u00e9sum\u00e9")
        (match,) = file["matches"]
        assert (match["line"], match["text"]) == (2, "the re\u0301sume\u0301")
        assert match["context"] == text.split("\n")


class TestWhoSeesWhat:
    @pytest.mark.parametrize("mode", MODES)
    async def test_private_files_are_their_owners(
        self, filled: SearchWorld, as_: SignIn, mode: str
    ) -> None:
        other = await as_.user("other")
        await filled.upload(other, "cats-mine.txt", CATS, visibility="private")
        mine = "cats-mine.txt"
        assert mine not in await names(await as_("user"), query="cat", mode=mode)
        assert mine in await names(await as_("other"), query="cat", mode=mode)
        assert mine in await names(await as_("admin"), query="cat", mode=mode)

    @pytest.mark.parametrize("mode", MODES)
    async def test_what_others_hide_does_not_fill_the_limit(
        self, filled: SearchWorld, as_: SignIn, mode: str
    ) -> None:
        other = await as_.user("other")
        for number in range(5):
            await filled.upload(other, f"a-cat-{number}.txt", "cat cat cat", visibility="private")
        assert await names(await as_("user"), query="cat", mode=mode, limit=1) == ["cats.txt"]

    async def test_other_collections(self, filled: SearchWorld, as_: SignIn) -> None:
        for who, path in (("user", "docs/other"), ("user", "other/handbook")):
            answer = await (await as_(who)).post(f"/files/{path}/search", json={})
            assert answer.status_code == 404

    async def test_without_the_right(self, filled: SearchWorld, as_: SignIn) -> None:
        client = await as_.key("user", ["sinas.collections/docs/other.list:own"])
        # The same whether there is one or not.
        for path in ("docs/handbook", "docs/none"):
            answer = await client.post(f"/files/{path}/search", json={})
            assert answer.status_code == 403
        assert (
            await (await as_("nobody")).post("/files/docs/none/search", json={})
        ).status_code == 403

    async def test_only_this_collection_by_key(self, filled: SearchWorld, as_: SignIn) -> None:
        client = await as_.key("user", ["sinas.collections/docs/handbook.list:own"])
        assert await names(client, query="cat") == ["cats.txt"]

    async def test_anonymous(self, filled: SearchWorld, client: httpx.AsyncClient) -> None:
        assert (await client.post("/files/docs/handbook/search", json={})).status_code == 401


class TestBadInput:
    @pytest.mark.parametrize(
        "body",
        [
            b'{"query": "a\\u0000b"}',
            b'{"query": "\\ud800"}',
            b'{"query": 5}',
            b'{"query": "' + b"a" * 2001 + b'"}',
            b'{"metadata_filter": {"a": "\\u0000"}}',
            b'{"metadata_filter": {"a": NaN}}',
            b'{"metadata_filter": {"a": 1e999}}',
            b'{"metadata_filter": []}',
            b'{"limit": 0}',
            b'{"limit": -1}',
            b'{"limit": 1001}',
            b'{"limit": 99999999999999999999}',
            b'{"mode": "magic"}',
            b'{"nonsense": 1}',
            b"[]",
            b"",
        ],
    )
    async def test_is_refused(self, filled: SearchWorld, as_: SignIn, body: bytes) -> None:
        client = await as_("user")
        answer = await client.post(
            "/files/docs/handbook/search",
            content=body,
            headers={"Content-Type": "application/json"},
        )
        assert answer.status_code == 422, answer.text

    @pytest.mark.parametrize("mode", MODES)
    async def test_odd_queries(self, filled: SearchWorld, as_: SignIn, mode: str) -> None:
        client = await as_("user")
        for query in ("\\", "😀", "%_\\%", "'; DROP TABLE files; --", "\u202e", "a" * 2000):
            answer = await client.post(
                "/files/docs/handbook/search", json={"query": query, "mode": mode}
            )
            assert answer.status_code in (200, 400), answer.text

    async def test_odd_paths(self, filled: SearchWorld, as_: SignIn) -> None:
        client = await as_("user")
        for path in ("docs/%00", "%00/handbook", "docs/%ff", "docs/a b"):
            answer = await client.post(f"/files/{path}/search", json={})
            assert answer.status_code in (403, 404, 422), (path, answer.text)
