"""PDF: the text of its pages. Scans have none."""

import io
import logging
import re

from pypdf import PdfReader
from pypdf.errors import PyPdfError

from sinas.search.documents import Document, DocumentError, Writer

_PARAGRAPH = re.compile(r"\n[ \t]*\n")
_MAX_PAGES = 5000


def read_pdf(data: bytes, most: int) -> Document:
    """Paragraphs, with their pages.

    Raises:
        DocumentError: It is no PDF, or needs a password.
    """
    # It reports what is odd in a file, which is much.
    logging.getLogger("pypdf").setLevel(logging.CRITICAL)
    writer = Writer(most)
    try:
        reader = PdfReader(io.BytesIO(data))
        if reader.is_encrypted and not reader.decrypt(""):
            raise DocumentError("It needs a password.")
        pages = reader.pages
        count = len(pages)
    except (PyPdfError, ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        raise DocumentError("It is no PDF file that can be read.") from error
    for number in range(min(count, _MAX_PAGES)):
        writer.page = number + 1
        try:
            text = pages[number].extract_text()
        except (PyPdfError, ValueError, KeyError, TypeError, AttributeError, IndexError):
            continue  # one page that is broken; the others may not be
        for paragraph in _PARAGRAPH.split(text):
            writer.add(paragraph)
        if writer.is_full:
            break
    document = writer.document()
    if not document.text:
        raise DocumentError("It has no text; scanned pages are pictures.")
    return document
