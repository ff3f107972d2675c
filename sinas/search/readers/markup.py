"""HTML: what a person would read of it."""

import re

from lxml import etree, html

from sinas.search.documents import Document, DocumentError, Writer

_UNREAD = frozenset(
    {"script", "style", "noscript", "template", "svg", "math", "iframe", "object", "select"}
)
_INLINE = frozenset({
    "a", "abbr", "b", "bdi", "bdo", "big", "cite", "code", "data", "del", "dfn", "em",
    "font", "i", "img", "input", "ins", "kbd", "label", "mark", "nobr", "q", "rp", "rt",
    "ruby", "s", "samp", "small", "span", "strike", "strong", "sub", "sup", "time", "tt",
    "u", "var", "wbr",
})  # fmt: skip
_CELLS = frozenset({"td", "th"})
_HEADING = re.compile(r"h([1-6])")
_SPACE = re.compile(r"\s+")


def read_html(data: bytes, most: int) -> Document:
    """Headings, paragraphs, list items and table rows of a page.

    Raises:
        DocumentError: There is no page in it.
    """
    writer = Writer(most)
    walk = _Walk(writer)
    # Without `resolve_entities`, `load_dtd` and the network, a page is only itself.
    parser = html.HTMLParser(
        encoding=_encoding(data), no_network=True, remove_comments=True, remove_pis=True
    )
    try:
        root = html.document_fromstring(data, parser=parser)
    except (etree.ParserError, etree.XMLSyntaxError, ValueError) as error:
        raise DocumentError("It is no HTML page.") from error
    for event, element in etree.iterwalk(root, events=("start", "end")):
        if writer.is_full:
            break
        if not isinstance(element.tag, str):
            continue  # what is no element
        (walk.start if event == "start" else walk.end)(element)
    walk.flush()
    return writer.document()


class _Walk:
    """Collects inline text until a block begins or ends."""

    def __init__(self, writer: Writer) -> None:
        self._writer = writer
        self._text: list[str] = []
        self._unread = 0
        self._preformatted = 0
        self._level = 0

    def start(self, element: etree._Element) -> None:
        tag = element.tag
        if self._unread or tag in _UNREAD:
            self._unread += 1
            return
        if tag == "br":
            self._text.append("\n")
        elif tag in _CELLS:
            self._text.append(" | " if self._text else "")
        elif tag not in _INLINE:
            self.flush()
        if heading := _HEADING.fullmatch(tag):
            self._level = int(heading[1])
        elif tag == "title":
            self._level = 1
        self._preformatted += tag == "pre"
        self._keep(element.text)

    def end(self, element: etree._Element) -> None:
        tag = element.tag
        if self._unread:
            self._unread -= 1
            if not self._unread:
                self._keep(element.tail)
            return
        if tag not in _INLINE and tag not in _CELLS and tag != "br":
            self.flush()
            self._level = 0
        self._preformatted -= tag == "pre"
        self._keep(element.tail)

    def flush(self) -> None:
        if self._text:
            self._writer.add("".join(self._text), self._level)
            self._text.clear()

    def _keep(self, text: str | None) -> None:
        if text and not self._unread:
            kept = text if self._preformatted else _SPACE.sub(" ", text)
            if self._text or kept.strip():
                self._text.append(kept)


def _encoding(data: bytes) -> str | None:
    """UTF-8 where it is that, whatever the page says; else what the page says."""
    try:
        data.decode()
    except UnicodeDecodeError:
        return None
    return "utf-8"
