"""Reading documents: through the child process, hostile ones with it."""

import errno
import io
import subprocess
import sys
import zipfile
import zlib
from pathlib import Path

import pytest

from sinas.search.documents import Document, DocumentError
from sinas.search.formats import Format, format_of
from sinas.search.reading import ReadingLimits, read
from tests.search import documents as made

LIMITS = ReadingLimits(max_chars=100_000, seconds=20, memory_bytes=1024**3)
TIGHT = ReadingLimits(max_chars=100_000, seconds=2, memory_bytes=400 * 1024**2)


async def read_bytes(kind: Format, data: bytes, limits: ReadingLimits = LIMITS) -> Document:
    return await read(kind, made.streamed(data), limits)


def parts(document: Document) -> list[tuple[str, int, int | None]]:
    return [(document.text[b.start : b.end], b.level, b.page) for b in document.blocks]


class TestFormats:
    @pytest.mark.parametrize(
        ("content_type", "name", "expected"),
        [
            ("text/plain", "a.txt", Format.TEXT),
            ("text/plain; charset=utf-8", "notes.md", Format.MARKDOWN),
            ("application/octet-stream", "a.PDF", Format.PDF),
            ("application/octet-stream", "a", Format.TEXT),
            ("TEXT/HTML", "a", Format.HTML),
            ("application/json", "a.json", Format.TEXT),
            ("application/atom+xml", "feed", Format.TEXT),
            ("image/svg+xml", "a.svg", Format.TEXT),
            ("image/png", "a.txt", None),
            ("application/zip", "a.zip", None),
            ("application/zip", "a.docx", Format.DOCX),
            ("application/vnd.ms-excel", "a.xls", None),
        ],
    )
    def test_of(self, content_type: str, name: str, expected: Format | None) -> None:
        assert format_of(content_type, name) == expected


class TestRead:
    async def test_text_is_the_file_to_the_character(self) -> None:
        text = "\n\nOne ä\nline.\r\n\r\n\r\n  Two 漢字\n"
        document = await read_bytes(Format.TEXT, text.encode())
        assert document.text == text
        assert [part[0] for part in parts(document)] == ["One ä\nline.", "Two 漢字"]
        assert document.is_whole

    async def test_markdown(self) -> None:
        text = "# Title\n\nHello\nyou\n\n```\n# no heading\n\nx\n```\nSub\n---\n- a\n- b\n\n| a | b |\n|-|-|\n| 1 | 2 |\n"
        document = await read_bytes(Format.MARKDOWN, text.encode())
        assert document.text == text
        assert parts(document) == [
            ("# Title", 1, None),
            ("Hello\nyou", 0, None),
            ("```\n# no heading\n\nx\n```", 0, None),
            ("Sub\n---", 2, None),
            ("- a\n- b", 0, None),
            ("| a | b |\n|-|-|\n| 1 | 2 |", 0, None),
        ]

    async def test_html(self) -> None:
        page = (
            "<!doctype html><title>Shop</title><script>steal()</script><style>p{}</style>"
            "<body><h2>Our <b>offer</b></h2><p>Ten &euro; \n  each<br>only<p>now<ul><li>One<li>Two</ul>"
            "<table><tr><td>a<td>b</table><pre>x\n  y</pre><!-- hidden -->"
        )
        document = await read_bytes(Format.HTML, page.encode())
        assert parts(document) == [
            ("Shop", 1, None),
            ("Our offer", 2, None),
            ("Ten € each\nonly", 0, None),
            ("now", 0, None),
            ("One", 0, None),
            ("Two", 0, None),
            ("a | b", 0, None),
            ("x\n  y", 0, None),
        ]

    async def test_html_in_the_encoding_it_names(self) -> None:
        page = "<meta charset='iso-8859-1'><p>Größe".encode("latin-1")
        assert (await read_bytes(Format.HTML, page)).text == "Größe"

    async def test_pdf(self) -> None:
        document = await read_bytes(Format.PDF, made.pdf_file("First page", "Second page"))
        assert parts(document) == [("First page", 0, 1), ("Second page", 0, 2)]

    async def test_docx(self) -> None:
        data = made.docx_file(("Handbook", 1), ("Holidays", 2), ("Thirty days.", 0))
        assert parts(await read_bytes(Format.DOCX, data)) == [
            ("Handbook", 1, None),
            ("Holidays", 2, None),
            ("Thirty days.", 0, None),
            ("Price | 12 EUR", 0, None),
        ]

    async def test_xlsx(self) -> None:
        assert parts(await read_bytes(Format.XLSX, made.xlsx_file())) == [
            ("Prices", 1, 1),
            ("Product | Price", 0, 1),
            ("Bicycle | 499.5", 0, 1),
            ("Empty", 1, 2),
        ]

    async def test_pptx(self) -> None:
        assert parts(await read_bytes(Format.PPTX, made.pptx_file())) == [
            ("Roadmap", 1, 1),
            ("Ship the search", 0, 1),
            ("Mention the deadline", 0, 1),
            ("Budget", 1, 2),
        ]

    async def test_opendocument(self) -> None:
        assert parts(await read_bytes(Format.OPENDOCUMENT, made.odt_file())) == [
            ("Terms", 2, None),
            ("Payment is due in 30 days.", 0, None),
            ("Fee | 5 EUR", 0, None),
        ]

    async def test_a_long_text_is_cut(self) -> None:
        limits = ReadingLimits(max_chars=1000, seconds=20, memory_bytes=1024**3)
        for kind, data in (
            (Format.TEXT, "ä".encode() * 5000),
            (Format.HTML, b"<p>" + b"x" * 5000),
        ):
            document = await read_bytes(kind, data, limits)
            assert len(document.text) == 1000
            assert not document.is_whole

    async def test_nothing_in_it_is_nothing(self) -> None:
        for data in (b"", b" \n\n "):
            assert (await read_bytes(Format.TEXT, data)).blocks == ()


def bomb(name: str) -> bytes:
    """An office file of 160 kB whose `name` is a thousand times that when unpacked."""
    return made.zipped({name: bytes(160 * 1024**2)})


ENTITIES = (
    "<?xml version='1.0'?><!DOCTYPE d [<!ENTITY a 'aaaaaaaaaa'>"
    + "".join(
        f"<!ENTITY {b} '{f'&{a};' * 10}'>" for a, b in zip("abcdefghi", "bcdefghij", strict=True)
    )
    + "]>"
)
EXTERNAL = "<?xml version='1.0'?><!DOCTYPE d [<!ENTITY x SYSTEM 'file:///etc/passwd'>]>"


class TestHostile:
    @pytest.mark.parametrize(
        ("kind", "data"),
        [
            (Format.TEXT, b"\xff\xfe\x00\x01"),
            (Format.TEXT, bytes(range(1, 9)) * 3),
            (Format.HTML, b""),
            (Format.PDF, b"%PDF-1.7\nnothing"),
            (Format.PDF, b""),
            (Format.DOCX, b"PK\x03\x04 no archive"),
            (Format.DOCX, made.zipped({"a": b"b"})),
            (Format.XLSX, made.zipped({"[Content_Types].xml": b"<a"})),
            (Format.PPTX, made.docx_file(("not a show", 0))),
            (Format.OPENDOCUMENT, made.zipped({"a": b"b"})),
            (Format.OPENDOCUMENT, made.zipped({"content.xml": b"<a>"})),
        ],
    )
    async def test_broken(self, kind: Format, data: bytes) -> None:
        with pytest.raises(DocumentError):
            await read_bytes(kind, data)

    async def test_a_bomb_is_not_unpacked(self) -> None:
        data = bomb("word/document.xml")
        assert len(data) < 1024**2
        for kind in (Format.DOCX, Format.XLSX, Format.PPTX):
            with pytest.raises(DocumentError, match="unpacks to more"):
                await read_bytes(kind, data)

    async def test_a_bomb_that_lies_about_its_size(self) -> None:
        data = bytearray(made.zipped({"content.xml": b"<a>" + b" " * 50_000_000}))
        real, small = (50_000_003).to_bytes(4, "little"), (1000).to_bytes(4, "little")
        assert data.count(real) == 2
        with pytest.raises(DocumentError):
            await read_bytes(Format.OPENDOCUMENT, bytes(data).replace(real, small))

    @pytest.mark.parametrize("doctype", [ENTITIES, EXTERNAL])
    async def test_entities_stay_unread(self, doctype: str) -> None:
        reference = "&j;" if doctype is ENTITIES else "&x;"
        content = made.odt_file(f"<text:p>before{reference}</text:p>")
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            xml = archive.read("content.xml").decode()
        xml = doctype + xml.removeprefix("<?xml version='1.0'?>")
        data = made.zipped({"content.xml": xml.encode()})
        try:
            text = (await read_bytes(Format.OPENDOCUMENT, data, TIGHT)).text
        except DocumentError:
            return
        assert "root:" not in text
        assert len(text) < 1000

    async def test_entities_in_a_word_file(self) -> None:
        body = (
            "<w:document xmlns:w='http://schemas.openxmlformats.org/wordprocessingml/2006/main'>"
            "<w:body><w:p><w:r><w:t>before&{};</w:t></w:r></w:p></w:body></w:document>"
        )
        for doctype, name in ((ENTITIES, "j"), (EXTERNAL, "x")):
            data = made.replaced(
                made.docx_file(), "word/document.xml", (doctype + body.format(name)).encode()
            )
            try:
                text = (await read_bytes(Format.DOCX, data, TIGHT)).text
            except DocumentError:
                continue
            assert "root:" not in text
            assert len(text) < 1000

    async def test_a_page_that_unpacks_to_gigabytes(self) -> None:
        stream = zlib.compress(b"(" + b"x" * 100_000_000 + b") Tj")
        with pytest.raises(DocumentError):
            await read_bytes(Format.PDF, made.pdf_file(streams=[stream]), TIGHT)

    async def test_a_page_without_end(self) -> None:
        # A page tree that is its own child.
        data = made.pdf_file("x").replace(b"/Kids[4 0 R]", b"/Kids[2 0 R]")
        with pytest.raises(DocumentError):
            await read_bytes(Format.PDF, data, TIGHT)

    async def test_what_never_stops_is_stopped(self) -> None:
        # Millions of drawing operations.
        stream = zlib.compress(b"BT 1 0 0 1 0 0 Tm (a) Tj ET\n" * 300_000)
        with pytest.raises(DocumentError, match=r"too long|memory|no text"):
            await read_bytes(Format.PDF, made.pdf_file(streams=[stream] * 40), TIGHT)

    async def test_html_nested_a_million_deep(self) -> None:
        try:
            document = await read_bytes(Format.HTML, b"<div>" * 1_000_000 + b"x", TIGHT)
        except DocumentError:
            return
        assert len(document.text) <= 1

    async def test_the_source_of_the_bytes_breaks(self) -> None:
        async def broken():
            yield b"a"
            raise OSError("the disk is gone")

        with pytest.raises(OSError, match="disk"):
            await read(Format.TEXT, broken(), LIMITS)


def test_a_reader_that_is_led_astray_writes_no_file(tmp_path: Path) -> None:
    target = tmp_path / "file"
    code = (
        "import pathlib, signal, sys\n"
        "from sinas.search.child import limit\n"
        "limit(5, 1024**3)\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "try: pathlib.Path(sys.argv[1]).write_text('x')\n"
        "except OSError as error: print(error.errno)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(target)], capture_output=True, text=True, check=False
    )
    assert done.stdout.strip() == str(errno.EFBIG), done.stderr
    assert not target.read_bytes()
