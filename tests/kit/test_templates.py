"""Templates of users: what they can do, and what they cannot."""

from typing import Any

import pytest

from sinas.kit.templates import TemplateError, check_template, render, render_lenient


@pytest.mark.parametrize(
    ("text", "variables", "result"),
    [
        ("plain", {}, "plain"),
        ("Hi {{ name }}!\n", {"name": "Ada"}, "Hi Ada!\n"),
        ("{{ a.b[1] }}", {"a": {"b": [1, 2]}}, "2"),
        ("{% for x in xs %}{{ x|upper }}{% endfor %}", {"xs": ["a", "b"]}, "AB"),
        ("{{ x|default('none') }}", {}, "none"),
        ("{% if x is defined %}y{% endif %}", {}, ""),
        ("{{ '<b>' }}", {}, "<b>"),
        ("{{ 2 ** 10 }}{{ 7 % 4 }}{{ 'ab' * 2 }}", {}, "10243abab"),
        ("{{ text }}", {"text": "a variable of any name"}, "a variable of any name"),
    ],
)
def test_rendering(text: str, variables: dict[str, Any], result: str) -> None:
    assert render(text, variables) == result


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{{ missing }}", "'missing' is undefined"),
        ("{{ a.missing }}", "no attribute 'missing'"),
        ("a\n{% if %}", "line 2"),
        ("{{ 1 / 0 }}", "ZeroDivisionError"),
        ("{{ ''.__class__.__mro__ }}", "unsafe"),
        ("{{ a.__init__.__globals__ }}", ""),
        ("{{ xs.append(1) }}", "unsafe"),
        ("{{ 'x' * 10**9 }}", "too much"),
        ("{{ 9 ** 9 ** 9 }}", "power"),
        ("{{ '%1000000000d' % 1 }}", "formatted"),
        ("{{ 'x'.ljust(10**9) }}", "unsafe"),
        ("{{ '{:>1000000000}'.format(1) }}", "unsafe"),
        ("{{ ('{:>1000000000}'|attr('format'))(1) }}", "unsafe"),
        ("{{ 'x'|center(1000000000) }}", "center"),
        ("{{ lipsum(100000) }}", "undefined"),
        ("{% for a in range(90000) %}{{ 'x' * 100 }}{% endfor %}", "1000000"),
        ("{{ range(10**9) }}", ""),
    ],
)
def test_what_fails_or_is_refused(text: str, words: str) -> None:
    with pytest.raises(TemplateError) as caught:
        render(text, {"a": {}, "xs": []})
    assert words in caught.value.message


def test_checking_parses_only() -> None:
    check_template("{{ missing }}")
    with pytest.raises(TemplateError, match="line 1"):
        check_template("{{ missing")


@pytest.mark.parametrize(
    ("text", "filled", "is_lacking"),
    [
        ("{{ a }}", "1", False),
        ("{{ b }}!", "!", True),
        ("{{ b.c.d }}", "", True),
        ("{{ a.c }}", "", True),
        ("{% for x in b %}x{% endfor %}", "", True),
        ("{{ b | default('none') }}", "none", False),
        ("{% if b is defined %}{{ b }}{% endif %}", "", False),
    ],
)
def test_unknown_names_can_be_left_empty(text: str, filled: str, is_lacking: bool) -> None:
    assert render_lenient(text, {"a": 1}) == (filled, is_lacking)


def test_what_is_refused_stays_refused_where_names_may_be_unknown() -> None:
    for text in ("{{ 'x' * 9999999 }}", "{{ a.__class__.__mro__ }}{{ 1 / 0 }}", "{{ a"):
        with pytest.raises(TemplateError):
            render_lenient(text, {"a": 1})
    assert render_lenient("{{ a.__class__ }}", {"a": 1})[0] == ""
