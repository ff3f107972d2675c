"""What a browser is told of contents that strangers uploaded."""

import pytest

from sinas.kit.media_types import (
    disposition,
    fits,
    guessed,
    is_media_type,
    is_pattern,
    served_headers,
)

PLAIN = "application/octet-stream"


@pytest.mark.parametrize(
    ("given", "sent", "shown"),
    [
        ("image/png", "image/png", True),
        ("IMAGE/PNG; x=y", "image/png", True),
        ("text/plain; charset=latin1", "text/plain; charset=utf-8", True),
        ("application/pdf", "application/pdf", True),
        ("video/mp4", "video/mp4", True),
        ("image/svg+xml", "image/svg+xml", False),
        ("text/csv", "text/csv; charset=utf-8", False),
        ("application/zip", "application/zip", False),
        (
            "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
            "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
            False,
        ),
        # Whatever a browser could run, and whatever is not known.
        ("text/html", PLAIN, False),
        (" Text/HTML ;charset=x", PLAIN, False),
        ("application/xhtml+xml", PLAIN, False),
        ("application/xml", PLAIN, False),
        ("text/xml", PLAIN, False),
        ("text/xsl", PLAIN, False),
        ("image/svg", PLAIN, False),
        ("application/vnd.mozilla.xul+xml", PLAIN, False),
        ("application/vnd.wap.xhtml+xml", PLAIN, False),
        ("text/javascript", PLAIN, False),
        ("application/ecmascript", PLAIN, False),
        ("text/css", PLAIN, False),
        ("application/wasm", PLAIN, False),
        ("application/x-shockwave-flash", PLAIN, False),
        ("multipart/x-mixed-replace", PLAIN, False),
        ("multipart/related", PLAIN, False),
        ("message/rfc822", PLAIN, False),
        ("text/cache-manifest", PLAIN, False),
        ("application/manifest+json", PLAIN, False),
        ("nonsense", PLAIN, False),
        ("", PLAIN, False),
    ],
)
def test_what_is_sent(given: str, sent: str, shown: bool) -> None:
    headers = served_headers(given, "a")
    assert headers["Content-Type"] == sent
    assert headers["Content-Disposition"].startswith("inline" if shown else "attachment")
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert "default-src 'none'" in headers["Content-Security-Policy"]
    is_pdf = sent == "application/pdf"
    assert headers["Content-Security-Policy"].endswith("sandbox") is not is_pdf


@pytest.mark.parametrize(
    ("name", "header"),
    [
        ("a b.txt", 'attachment; filename="a b.txt"'),
        ('a".txt', "attachment; filename*=UTF-8''a%22.txt; filename=\"a_.txt\""),
        ("ü.txt", "attachment; filename*=UTF-8''%C3%BC.txt; filename=\"_.txt\""),
        ("a;b", "attachment; filename*=UTF-8''a%3Bb; filename=\"a_b\""),
        ("a\r\nX: y", "attachment; filename*=UTF-8''a%0D%0AX%3A%20y; filename=\"a__X: y\""),
    ],
)
def test_names_in_headers(name: str, header: str) -> None:
    assert disposition(name) == header


@pytest.mark.parametrize(
    ("text", "good"),
    [
        ("text/plain", True),
        ("text/plain; charset=utf-8", True),
        ("application/vnd.a.b+json", True),
        ("text", False),
        ("text/", False),
        ("/plain", False),
        ("text/plain\r\nX: y", False),
        ("text/pl ain", False),
        ("tëxt/plain", False),
        ("*/*", False),
        ("a" * 200 + "/b", False),
    ],
)
def test_media_types(text: str, good: bool) -> None:
    assert is_media_type(text) is good


def test_patterns() -> None:
    assert [is_pattern(p) for p in ("image/*", "a/b", "*/*", "*/a", "image", "a/b*")] == [
        True,
        True,
        True,
        False,
        False,
        False,
    ]
    assert fits("image/PNG; a=b", ["text/plain", "image/*"])
    assert fits("text/html", [])
    assert not fits("text/html", ["text/plain"])
    assert not fits("image2/png", ["image/*"])


def test_guesses() -> None:
    assert guessed("a.b.YAML") == "application/yaml"
    assert guessed("a.png") == "image/png"
    assert guessed("README", "text/plain") == "text/plain"
    assert guessed("a.unheard") == PLAIN
