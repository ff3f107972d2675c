"""Filling templates in over HTTP, by id and by name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.factories.templates import make_template

if TYPE_CHECKING:
    from sinas.context import AppContext
    from tests.fixtures.client import SignIn

SCHEMA = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "age": {"type": "integer"}},
    "required": ["name"],
}


async def paths(context: AppContext, as_: SignIn, html: str, **columns: Any) -> list[str]:
    """All ways to fill one template in."""
    row = await make_template(context, await as_.user("user"), html, **columns)
    return [
        f"/templates/{row.namespace}/{row.name}/render",
        f"/templates/{row.id}/render",
        f"/api/v1/templates/{row.id}/render",
    ]


async def test_every_part_every_way(context: AppContext, as_: SignIn) -> None:
    user = await as_("user")
    ways = await paths(
        context,
        as_,
        "<p>{{ name }}</p>\n{% if name %}\n  <b>{{ name|upper }}</b>\n{% endif %}\n",
        title="For\n {{ name }}",
        text_content="Dear {{ name }}",
    )
    for path in ways:
        answer = await user.post(path, json={"variables": {"name": "<Ada> & co"}})
        assert answer.status_code == 200, answer.text
        assert answer.json() == {
            "title": "For <Ada> & co",
            "html_content": "<p>&lt;Ada&gt; &amp; co</p>\n  <b>&lt;ADA&gt; &amp; CO</b>\n",
            "text_content": "Dear <Ada> & co",
        }


async def test_parts_that_are_not_there(context: AppContext, as_: SignIn) -> None:
    user = await as_("user")
    path, *_ = await paths(context, as_, "<p>Hi</p>")
    bodies: list[dict[str, Any]] = [{}, {"variables": {}}]
    for body in bodies:
        assert (await user.post(path, json=body)).json() == {
            "title": None,
            "html_content": "<p>Hi</p>",
            "text_content": None,
        }


@pytest.mark.parametrize(
    ("part", "text", "words"),
    [
        (
            "html_content",
            "a\nb {{ missing }}",
            ["html_content", "line 2", "'missing' is undefined"],
        ),
        ("title", "{{ name.first }}", ["title", "line 1", "no attribute 'first'"]),
        ("text_content", "\n\n{{ 1 / 0 }}", ["text_content", "line 3", "ZeroDivisionError"]),
        ("html_content", "{{ name.__class__ }}", ["html_content", "unsafe"]),
        ("html_content", "{% for a in range(20) %}{{ name * 20000 }}{% endfor %}", ["1000000"]),
        ("html_content", '{{ "\\ud800" }}', ["html_content", "Unicode"]),
        ("html_content", '{{ "\\x00" }}', ["html_content", "NUL"]),
    ],
)
async def test_what_fails_says_where(
    context: AppContext, as_: SignIn, part: str, text: str, words: list[str]
) -> None:
    user = await as_("user")
    columns = {"html": "<p></p>", part.replace("html_content", "html"): text}
    for path in await paths(context, as_, **columns):
        answer = await user.post(path, json={"variables": {"name": "Ada"}})
        assert answer.status_code == 400, answer.text
        assert all(word in answer.json()["detail"] for word in words), answer.json()
        assert [error["field"] for error in answer.json()["errors"]] == [part]


@pytest.mark.parametrize(
    ("variables", "fields"),
    [
        ({}, ["variables.name"]),
        ({"name": 7}, ["variables.name"]),
        ({"name": "Ada", "age": "old"}, ["variables.age"]),
    ],
)
async def test_variables_keep_the_schema(
    context: AppContext, as_: SignIn, variables: dict[str, Any], fields: list[str]
) -> None:
    user = await as_("user")
    for path in await paths(context, as_, "{{ name }}", variable_schema=SCHEMA):
        answer = await user.post(path, json={"variables": variables})
        assert answer.status_code == 400
        assert [error["field"] for error in answer.json()["errors"]] == fields
        assert (await user.post(path, json={"variables": {"name": "Ada"}})).status_code == 200


@pytest.mark.parametrize(
    "content",
    [
        '{"variables": []}',
        '{"variables": null}',
        '{"variables": {"name": "\\ud800"}}',
        '{"variables": {"name": "\\u0000"}}',
        '{"variables": {"name": NaN}}',
        '{"variables": {"name": 1e999}}',
        '{"variables": {"name": 123456789012345678901234567890}}',
        '{"variables": {"name": ' + "[" * 300 + "]" * 300 + "}}",
        '{"variables": {}, "surprise": 1}',
        "[]",
        "nonsense",
        "",
    ],
)
async def test_bodies_that_are_refused(context: AppContext, as_: SignIn, content: str) -> None:
    user = await as_("user")
    headers = {"content-type": "application/json"}
    for path in await paths(context, as_, "{{ name }}"):
        answer = await user.post(path, content=content, headers=headers)
        assert answer.status_code == 422, answer.text


async def test_only_a_preview_shows_what_is_switched_off(context: AppContext, as_: SignIn) -> None:
    user = await as_("user")
    *runtime, preview = await paths(context, as_, "Hi", is_active=False)
    assert [(await user.post(path, json={})).status_code for path in runtime] == [404, 404]
    assert (await user.post(preview, json={})).status_code == 200


async def test_others_do_not_learn_that_it_exists(context: AppContext, as_: SignIn) -> None:
    ways = await paths(context, as_, "Hi")
    for path in ways:
        assert (await (await as_("other")).post(path, json={})).status_code == 404
        assert (await (await as_("guest")).post(path, json={})).status_code == 403
        key = await as_.key("user", ["sinas.templates/*/*.read:own"])
        assert (await key.post(path, json={})).status_code == 403
    user = await as_("user")
    for odd in ("/templates/x/render", "/templates/%00/y/render", "/templates/null/render"):
        assert (await user.post(odd, json={})).status_code in (404, 422)
