"""HTML as plain text."""

import pytest

from sinas.kit.html_text import text_of_html


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("plain", "plain\n"),
        ("<p>One</p><p>Two</p>", "One\n\nTwo\n"),
        ("a<br>b<br/>c", "a\nb\nc\n"),
        ("<b>bold</b>   and\n\n wrapped", "bold and wrapped\n"),
        ("Tom &amp; Jerry &lt;3 &eacute; &#8364;", "Tom & Jerry <3 é €\n"),
        ("<ul><li>One</li><li>Two</li></ul>", "- One\n- Two\n"),
        (
            '<a href="https://x.example/?a=1&amp;b=2">here</a>',
            "here (https://x.example/?a=1&b=2)\n",
        ),
        ("<a href='https://x.example'>https://x.example</a>", "https://x.example\n"),
        ('<a href="javascript:alert(1)">x</a><a name="y">z</a>', "xz\n"),
        ("<head><title>No</title></head><style>p > a {}</style>Yes", "Yes\n"),
        ("<script>if (a < b) document.write('<p>no</p>')</script>yes", "yes\n"),
        ("a<!-- <b>no</b> --> b", "a b\n"),
        ("1 < 2 and 3 > 2", "1 < 2 and 3 > 2\n"),
        ("<table><tr><td>a</td><td>b</td></tr><tr><td>c</td></tr></table>", "a b\nc\n"),
        ("<h1>Title</h1>text<h2>More</h2>", "Title\n\ntext\n\nMore\n"),
        ("", "\n"),
        ("<", "<\n"),
        ("<!DOCTYPE html><?xml ?><p>x", "x\n"),
        ("<p", "\n"),
    ],
)
def test_what_is_read(source: str, text: str) -> None:
    assert text_of_html(source) == text


@pytest.mark.parametrize(
    "piece",
    ["<", "<a ", "<!--", "<a b='", "</", "<![", "<script>", "&", "<a href=", "<a href='x'>", " "],
)
def test_no_page_takes_long(piece: str) -> None:
    """The suite's time limit ends what is quadratic."""
    text_of_html((piece * 1_000_000)[:1_000_000])
