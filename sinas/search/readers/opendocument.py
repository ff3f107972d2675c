"""OpenDocument files: text, spreadsheets, presentations."""

from lxml import etree

from sinas.search.documents import Document, DocumentError, Writer
from sinas.search.readers.archives import opened

_TEXT = "{urn:oasis:names:tc:opendocument:xmlns:text:1.0}"
_TABLE = "{urn:oasis:names:tc:opendocument:xmlns:table:1.0}"
_DRAW = "{urn:oasis:names:tc:opendocument:xmlns:drawing:1.0}"
_BLOCKS = (f"{_TEXT}h", f"{_TEXT}p", f"{_TABLE}table-row")


def read_opendocument(data: bytes, most: int) -> Document:
    """Headings, paragraphs and rows.

    Raises:
        DocumentError: It is not OpenDocument, or not well-formed.
    """
    writer = Writer(most)
    slides = 0
    with opened(data) as archive:
        try:
            content = archive.open("content.xml")
        except (KeyError, RuntimeError, NotImplementedError) as error:
            raise DocumentError("It is no OpenDocument file: it has no content.xml.") from error
        with content:
            events = etree.iterparse(
                content, events=("start", "end"), resolve_entities=False, no_network=True
            )
            try:
                for event, element in events:
                    if event == "start":
                        if element.tag == f"{_DRAW}page":
                            slides += 1
                            writer.page = slides
                        continue
                    _end(writer, element)
                    if writer.is_full:
                        break
            except etree.XMLSyntaxError as error:
                raise DocumentError("Its XML is broken.") from error
    return writer.document()


def _end(writer: Writer, element: etree._Element) -> None:
    if element.tag not in _BLOCKS:
        return
    if element.tag != f"{_TABLE}table-row":
        if any(True for _ in element.iterancestors(f"{_TABLE}table-row", f"{_TEXT}p")):
            return  # its row, or what is around it, takes it along
        level = element.get(f"{_TEXT}outline-level", "1") if element.tag.endswith("}h") else "0"
        writer.add("".join(element.itertext()), int(level) if level.isdigit() else 1)
    else:
        cells = (" ".join("".join(p.itertext()).split()) for p in element.iter(f"{_TEXT}p"))
        writer.add(" | ".join(cell for cell in cells if cell))
    element.clear()
