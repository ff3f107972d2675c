"""Word, Excel and PowerPoint files (2007 and later)."""

import io
import re
from collections.abc import Iterable, Iterator
from typing import Any

from sinas.search.documents import Document, Writer
from sinas.search.readers.archives import opened

_HEADING = re.compile(r"heading ([1-9])")
_MAX_CELLS = 2_000_000
_MAX_NESTING = 20


def read_docx(data: bytes, most: int) -> Document:
    """Paragraphs and table rows of a Word file, with its headings."""
    import docx  # noqa: PLC0415 - a child process needs one reader's library
    from docx.table import Table  # noqa: PLC0415 - as above

    opened(data).close()
    writer = Writer(most)
    for part in docx.Document(io.BytesIO(data)).iter_inner_content():
        if writer.is_full:
            break
        if isinstance(part, Table):
            for row in _rows(part):
                writer.add(row)
            continue
        style = (part.style.name or "").lower() if part.style is not None else ""
        heading = _HEADING.fullmatch(style)
        level = int(heading[1]) if heading else int(style == "title")
        writer.add(part.text, level)
    return writer.document()


def read_xlsx(data: bytes, most: int) -> Document:
    """Rows of an Excel file, each sheet under its name; formulas as their last values."""
    import openpyxl  # noqa: PLC0415 - as above

    opened(data).close()
    writer = Writer(most)
    book = openpyxl.load_workbook(io.BytesIO(data), read_only=True, data_only=True)
    cells = 0
    for number, sheet in enumerate(book.worksheets, 1):
        writer.page = number
        writer.add(sheet.title, 1)
        # Said by the file, and not always true.
        sheet.reset_dimensions()
        for row in sheet.iter_rows(values_only=True):
            cells += len(row) + 1
            writer.add(_line(str(cell) for cell in row if cell is not None))
            if writer.is_full or cells > _MAX_CELLS:
                return writer.document()
    return writer.document()


def read_pptx(data: bytes, most: int) -> Document:
    """Texts of a PowerPoint file, slide by slide, with the speaker's notes."""
    import pptx  # noqa: PLC0415 - as above

    opened(data).close()
    writer = Writer(most)
    for number, slide in enumerate(pptx.Presentation(io.BytesIO(data)).slides, 1):
        writer.page = number
        title = slide.shapes.title
        if title is not None:
            writer.add(title.text_frame.text, 1)
        for shape in _shapes(slide.shapes):
            # A shape's object is a new one each time; its id is not.
            if title is not None and shape.shape_id == title.shape_id:
                continue
            if shape.has_text_frame:
                writer.add(shape.text_frame.text)
            elif getattr(shape, "has_table", False):
                for row in _rows(shape.table):
                    writer.add(row)
        if slide.has_notes_slide and slide.notes_slide.notes_text_frame is not None:
            writer.add(slide.notes_slide.notes_text_frame.text)
        if writer.is_full:
            break
    return writer.document()


def _shapes(shapes: Iterable[Any], depth: int = 0) -> Iterator[Any]:
    for shape in shapes:
        if hasattr(shape, "shapes") and depth < _MAX_NESTING:
            yield from _shapes(shape.shapes, depth + 1)
        else:
            yield shape


def _rows(table: Any) -> Iterator[str]:
    for row in table.rows:
        yield _line(cell.text for cell in row.cells)


def _line(cells: Iterable[str]) -> str:
    return " | ".join(" ".join(cell.split()) for cell in cells if cell.strip())
