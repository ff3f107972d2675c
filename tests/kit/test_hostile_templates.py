"""Templates written to get out, to hang the process or to fill its memory. None may."""

import resource
from pathlib import Path
from typing import Any

import pytest

from sinas.kit import template_meter
from sinas.kit.templates import TemplateError, render, render_document

VARIABLES: dict[str, Any] = {
    "d": {"k": "v"},
    "s": "text",
    "xs": list(range(1000)),
    "long": "ab" * 50_000,
    "tree": [[[1, 2], [3, 4]], [[5, 6], [7, 8]]],
}


def twice(start: str, step: str) -> str:
    """Takes `step` forty times."""
    return f"{{% set x = {start} %}}" + f"{{% set x = {step} %}}" * 40


ESCAPES = [
    "{{ ''.__class__ }}",
    "{{ ''['__class__'] }}",
    "{{ ''|attr('__class__') }}",
    "{{ ''|attr('__cla' ~ 'ss__') }}",
    "{{ d.__class__.__mro__[1].__subclasses__() }}",
    "{{ d|attr('__init__')|attr('__globals__') }}",
    "{{ [d]|map(attribute='__class__')|list }}",
    "{{ [d]|map(attribute='__class__.__mro__')|list }}",
    "{{ [d]|map('attr', '__class__')|list }}",
    "{{ [d]|selectattr('__class__')|map(attribute='__class__')|first }}",
    "{{ [d]|groupby('__class__') }}",
    "{{ [d]|sum(attribute='__class__') }}",
    "{{ [d]|join(attribute='__class__') }}",
    "{{ [d]|sort(attribute='__class__') ~ ([d]|map(attribute='__init__')|list) }}",
    "{{ '{0.__class__}'.format(d) }}",
    "{{ '{0.__class__}'.format_map({}) }}",
    "{{ ('{0.__class__}'|attr('format'))(d) }}",
    "{{ ['{0.__class__}']|map(attribute='format')|first }}",
    "{{ (['{0.__class__}']|map(attribute='format')|list)[0](d) }}",
    "{{ '%(a)s'|format(a=1) }}",
    "{{ cycler.__init__.__globals__.os }}",
    "{{ joiner.__init__ }}",
    "{{ namespace.__init__ }}",
    "{{ range.__self__ }}",
    "{{ dict.mro() }}",
    "{{ self.__init__ }}",
    "{{ self._TemplateReference__context }}",
    "{{ self._TemplateReference__context.environment }}",
    "{% macro m() %}{{ caller }}{% endmacro %}{{ m.__globals__ }}",
    "{% macro m() %}{% endmacro %}{{ m._func.__globals__ }}",
    "{% macro m() %}{% endmacro %}{{ m._environment }}",
    "{% for x in xs %}{{ loop._iterable.gi_frame }}{% endfor %}",
    "{% for x in xs %}{{ loop.__init__.__globals__ }}{% endfor %}",
    "{{ (xs|map('string')).gi_frame }}",
    "{{ (xs|map('string'))|attr('gi_code') }}",
    "{{ missing.__class__ }}",
    "{{ environment }}",
    "{{ context }}",
    "{{ config }}{{ request }}",
    "{{ __import__('os') }}",
    "{% include 'x' %}",
    "{% import 'x' as y %}",
    "{% extends 'x' %}",
    "{{ s.encode() }}",
    "{{ (1).to_bytes(9, 'big') }}",
    "{{ d.fromkeys(xs) }}",
    "{{ d.update({}) }}",
    "{{ xs.append(1) }}",
    "{% set ns = namespace() %}{{ ns.__init__ }}",
    "{% set ns = namespace() %}{{ ns._Namespace__attrs }}",
    "{{ xs|map('counted')|map('x') }}",
]

BOMBS = [
    twice("'x'", "x ~ x"),
    twice("'x'", "x + x"),
    twice("'x'", "x * 2"),
    twice("'x'", "[x, x]|join"),
    twice("'x'", "x|replace('x', 'xx')"),
    twice("'x'", "x.replace('x', 'xx')"),
    twice("'x'", "x.join([x, x, x])"),
    twice("'\\\\'", "x|tojson"),
    twice("'<&>'", "x|forceescape ~ x"),
    twice("'%'", "(x ~ x)|urlencode"),
    twice("[1]", "x + x"),
    twice("[1]", "[x, x]") + "{{ x }}",
    twice("[1]", "[x, x]") + "{{ x|string|length }}",
    twice("[1]", "[x, x]") + "{{ x|tojson|length }}",
    twice("[1]", "(x, x)") + "{{ x == [] }}",
    twice("1", "(x, x)") + "{{ {x: 1}|length }}",
    twice("1", "{'a': x, 'b': x}") + "{{ x }}",
    twice("1", "dict(a=x, b=x)") + "{{ x }}",
    twice("1", "namespace(a=x, b=x)") + "{{ [x] }}{{ 'long' * 10**8 }}",
    twice("3", "x * x"),
    twice("3", "x * x * x") + "{{ x }}",
    twice("'x'", "x.splitlines()[0] ~ x"),
    "{% set x %}{{ s }}{% endset %}" + "{% set x %}{{ x }}{{ x }}{% endset %}" * 40,
    "{% macro f(n) %}{% if n %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(60) }}",
    "{% macro f(n) %}{{ f(n) }}{% endmacro %}{{ f(1) }}",
    "{% macro f(n) %}{{ f(varargs, varargs) }}{{ varargs }}{% endmacro %}{{ f(1, [1], [1]) }}",
    "{% block b %}{{ self.b() }}{{ self.b() }}{% endblock %}",
    "{% for x in tree recursive %}{{ loop(tree) }}{% endfor %}",
    "{% for x in tree recursive %}{% if loop.depth < 60 %}{{ loop(tree) }}{% endif %}{% endfor %}",
    "{% for a in xs %}{% for b in xs %}{% for c in xs %}{% endfor %}{% endfor %}{% endfor %}",
    "{% for a in range(99999) if a < 0 %}{% endfor %}" * 200,
    "{% for a in range(99999) %}{% for b in range(99999) if false %}{% endfor %}{% endfor %}",
    "{% for a in xs %}{% for b in xs %}{{ 'x' in long }}{% endfor %}{% endfor %}",
    "{% for a in xs %}{% for b in xs %}{% if xs == xs[:] %}{% endif %}{% endfor %}{% endfor %}",
    "{% set ns = namespace(x='x') %}{% for a in xs %}{% set ns.x = ns.x ~ ns.x %}{% endfor %}",
    "{% set ns = namespace(x=[]) %}{% for a in xs %}{% set ns.x = [ns.x, ns.x] %}{% endfor %}",
    "{% set n = namespace(x=1) %}{% for a in xs %}{% set n.x = [n.x, long[:]] %}{% endfor %}",
    "{% for a in xs %}{% set y %}{{ long }}{% endset %}{% endfor %}",
    "{% set y %}{% for a in range(99999) %}" + "x" * 1000 + "{% endfor %}{% endset %}",
    "{{ range(99999)|map('string')|map('replace', '9', long)|list|length }}",
    "{{ range(99999)|map('default', long)|map('replace', '9', long)|join|length }}",
    "{{ ([none] * 99999)|map('default', long, true)|join|length }}",
    "{{ ([none] * 99999)|map('default', long, true)|join(long)|length }}",
    "{{ ([long] * 99999)|join }}",
    "{{ (['x'] * 99999)|join(long) }}",
    "{{ long.join(range(9999)|map('string')|list) }}",
    "{{ long.join(range(9999)|map('string')) }}",
    "{{ long.replace('a', long) }}",
    "{{ long|replace('', long) }}",
    "{{ long.split('a') * 99999 }}",
    "{{ [[long]]|sum(start=[]) }}",
    "{{ ([[1] * 999] * 999)|sum(start=[]) }}",
    "{{ range(99999)|map('string')|select('in', long)|list|length }}",
    "{{ range(99999)|map('string')|reject('eq', long)|select('in', long)|first }}",
    "{{ (long[:-1] ~ 'x') in ([none] * 99999)|map('default', long, true) }}",
    "{{ ([none] * 99999)|map('default', long, true)|max|length }}",
    "{{ ([none] * 99999)|map('default', long, true)|unique|list|length }}",
    "{{ ([none] * 99999)|map('default', xs, true)|sum(start=0) }}",
    "{{ range(99999)|batch(9999)|map('tojson')|map('tojson')|join|length * long }}",
    "{{ (range(99999)|list)|pprint|length }}",
    "{% if a %}" + "{% elif a %}x" * 15000 + "{% endif %}",
    "{{ 1" + "+1" * 90000 + " }}",
    "{{ a" + ".b" * 90000 + " }}",
    "{{ a" + "|upper" * 30000 + " }}",
    "{{ xs|batch(10**9, 'x')|list }}",
    "{{ xs|slice(10**9)|list }}",
    "{{ 5|round(-10**9) }}",
    "{{ 1.5|round(10**9, 'ceil') }}",
    "{{ '%999999999d'|format(1) }}",
    "{{ '%*d'|format(999999999, 1) }}",
    "{{ '%.999999999f'|format(1) }}",
    "{{ ('%999d' * 99999)|format(1) }}",
    "{{ 9 ** 9 ** 9 }}",
    "{{ " + "64 ** 64 * " * 12 + "1 }}",
    "{{ range(10**12)|list }}",
    "{{ ('a@' ~ 'a.' * 90000 ~ '!')|urlize }}",
    "{{ ('<!--x-->' * 90000)|striptags }}",
    "{{ long|wordwrap(1) }}{{ long|indent(10**9) }}{{ long|center(10**9) }}",
    "{{ 'x'.zfill(10**9) }}",
    "{{ 'x'.expandtabs(10**9) }}",
    "{% autoescape ([1]|batch(10**9, 1)|list) %}{% endautoescape %}{{ 'x' * 10**9 }}",
    "{{ " + "(" * 5000 + "1" + ")" * 5000 + " }}",
    "{{ " + "-" * 50_000 + "1 }}",
    "{{ " + "[" * 500 + "]" * 500 + " }}",
    "{% if 1 %}" * 200 + "{% endif %}" * 200 + "{{ missing }}",
    "{% for x in xs %}" * 30 + "{% endfor %}" * 30,
    "{{ " + "9" * 5000 + " }}",
    "{% filter upper %}{% for a in range(99999) %}{{ long }}{% endfor %}{% endfilter %}",
    "{% for a in range(99999) %}{{ long }}{% endfor %}",
]


@pytest.fixture(autouse=True)
def little_memory():
    """Room for half a gigabyte more than now; what wants more fails with a MemoryError."""
    before = resource.getrlimit(resource.RLIMIT_AS)
    now = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (now + 2**29, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_AS, before)


@pytest.mark.parametrize("text", ESCAPES)
@pytest.mark.parametrize("is_html", [True, False])
def test_no_way_out(text: str, is_html: bool) -> None:
    try:
        shown = render_document(text, VARIABLES, is_html=is_html)
    except TemplateError as error:
        shown = error.message.replace(text, "")
    for tell in (
        "<class",
        "&lt;class",
        "<module",
        "<function",
        "<built-in",
        "subclasses",
        " at 0x",
    ):
        assert tell not in shown


@pytest.fixture
def little_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """For the suite's sake; `test_at_the_real_limits` has the real ones."""
    monkeypatch.setattr(template_meter, "MAX_SECONDS", 0.2)


@pytest.mark.parametrize("text", BOMBS[::6], ids=range(len(BOMBS[::6])))
def test_at_the_real_limits(text: str) -> None:
    with pytest.raises(TemplateError) as caught:
        render(text, VARIABLES)
    assert "MemoryError" not in caught.value.message


@pytest.mark.usefixtures("little_time")
@pytest.mark.parametrize("text", BOMBS, ids=range(len(BOMBS)))
def test_no_bomb_goes_off(text: str) -> None:
    with pytest.raises(TemplateError) as caught:
        render(text, VARIABLES)
    assert "MemoryError" not in caught.value.message
    assert len(caught.value.message) < 500


@pytest.mark.usefixtures("little_time")
@pytest.mark.parametrize("text", BOMBS, ids=range(len(BOMBS)))
def test_no_bomb_goes_off_where_html_is_made(text: str) -> None:
    with pytest.raises(TemplateError) as caught:
        render_document(text, VARIABLES, is_html=True)
    assert "MemoryError" not in caught.value.message


def test_what_mail_is_made_of_is_far_from_the_limits() -> None:
    rows = [{"name": f"<item {n}>", "price": n / 7, "tags": ["a", "b"]} for n in range(1000)]
    text = """{% macro cell(value) %}<td>{{ value }}</td>{% endmacro %}
    {% set ns = namespace(sum=0) %}
    {% for row in rows %}
      {% set ns.sum = ns.sum + row.price %}
      <tr>{{ cell(row.name) }}{{ cell('%.2f'|format(row.price)) }}
      {{ cell(row.tags|join(', ')|upper) }}{% if loop.last %}{{ loop.length }}{% endif %}</tr>
    {% endfor %}{{ ns.sum|round(2) }} {{ rows|map(attribute='name')|join('; ')|length }}"""
    shown = render_document(text, {"rows": rows}, is_html=True)
    assert "<td>&lt;item 7&gt;</td><td>1.00</td>" in shown
    assert "1000</tr>" in shown
