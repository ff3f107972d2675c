"""Office files, PDFs and their hostile relatives, made as a test needs them."""

import io
import zipfile
import zlib
from collections.abc import AsyncIterator

import docx
import openpyxl
import pptx


async def streamed(data: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(data), 65_536):
        yield data[start : start + 65_536]


def docx_file(*parts: tuple[str, int]) -> bytes:
    """Paragraphs with their heading levels, 0 for none."""
    document = docx.Document()
    for text, level in parts:
        if level:
            document.add_heading(text, level)
        else:
            document.add_paragraph(text)
    table = document.add_table(rows=1, cols=2)
    table.cell(0, 0).text, table.cell(0, 1).text = "Price", "12 EUR"
    return _saved(document)


def xlsx_file() -> bytes:
    book = openpyxl.Workbook()
    sheet = book.active
    assert sheet is not None
    sheet.title = "Prices"
    sheet.append(["Product", "Price"])
    sheet.append(["Bicycle", 499.5])
    book.create_sheet("Empty")
    return _saved(book)


def pptx_file() -> bytes:
    show = pptx.Presentation()
    slide = show.slides.add_slide(show.slide_layouts[1])
    slide.shapes.title.text = "Roadmap"
    slide.placeholders[1].text = "Ship the search"
    slide.notes_slide.notes_text_frame.text = "Mention the deadline"
    show.slides.add_slide(show.slide_layouts[1]).shapes.title.text = "Budget"
    return _saved(show)


def _saved(document: object) -> bytes:
    file = io.BytesIO()
    document.save(file)  # type: ignore[attr-defined]
    return file.getvalue()


def odt_file(content: str | None = None) -> bytes:
    content = content or (
        "<text:h text:outline-level='2'>Terms</text:h>"
        "<text:p>Payment is <text:span>due</text:span> in 30 days.</text:p>"
        "<table:table><table:table-row><table:table-cell><text:p>Fee</text:p></table:table-cell>"
        "<table:table-cell><text:p>5 EUR</text:p></table:table-cell></table:table-row></table:table>"
    )
    return zipped({
        "content.xml": (
            "<?xml version='1.0'?><office:document-content "
            "xmlns:office='urn:oasis:names:tc:opendocument:xmlns:office:1.0' "
            "xmlns:text='urn:oasis:names:tc:opendocument:xmlns:text:1.0' "
            "xmlns:table='urn:oasis:names:tc:opendocument:xmlns:table:1.0'>"
            f"<office:body>{content}</office:body></office:document-content>"
        ).encode()
    })  # fmt: skip


def zipped(entries: dict[str, bytes]) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in entries.items():
            archive.writestr(name, data)
    return file.getvalue()


def replaced(archive: bytes, name: str, data: bytes) -> bytes:
    """An archive with one entry swapped."""
    with zipfile.ZipFile(io.BytesIO(archive)) as old:
        entries = {entry: old.read(entry) for entry in old.namelist()}
    return zipped({**entries, name: data})


def pdf_file(*pages: str, streams: list[bytes] | None = None) -> bytes:
    """A PDF of one line a page; or of pages with the given (compressed) content streams."""
    contents = streams or [
        zlib.compress(f"BT /F1 12 Tf 72 720 Td ({text}) Tj ET".encode()) for text in pages
    ]
    objects = [b"<</Type/Catalog/Pages 2 0 R>>"]
    kids = b" ".join(b"%d 0 R" % (4 + 2 * index) for index in range(len(contents)))
    objects.append(b"<</Type/Pages/Kids[%s]/Count %d>>" % (kids, len(contents)))
    objects.append(b"<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>")
    for index, stream in enumerate(contents):
        objects.append(
            b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 612 792]/Resources<</Font<</F1 3 0 R>>>>"
            b"/Contents %d 0 R>>" % (5 + 2 * index)
        )
        objects.append(
            b"<</Length %d/Filter/FlateDecode>>stream\n%s\nendstream" % (len(stream), stream)
        )
    file, offsets = bytearray(b"%PDF-1.4\n"), []
    for number, one in enumerate(objects, 1):
        offsets.append(len(file))
        file += b"%d 0 obj%s endobj\n" % (number, one)
    start = len(file)
    file += b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1)
    file += b"".join(b"%010d 00000 n \n" % offset for offset in offsets)
    file += b"trailer<</Size %d/Root 1 0 R>>\nstartxref\n%d\n%%%%EOF" % (len(objects) + 1, start)
    return bytes(file)
