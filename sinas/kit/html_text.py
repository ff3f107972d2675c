"""HTML as plain text, for mail programs that show no HTML.

Not by the standard library's parser: a few hundred kilobytes of unfinished tags keep it busy for
minutes. This one looks at each character once, and is content with less precision.
"""

import html
import re

_NAME = re.compile(r"/?([a-zA-Z][a-zA-Z0-9]*)")
_HREF = re.compile(r"""\shref\s{0,9}=\s{0,9}(?:"([^"]*)"|'([^']*)'|([^\s"'>]+))""", re.IGNORECASE)
_LINKED = ("http://", "https://", "mailto:")
_UNREAD = frozenset({"head", "script", "style", "template", "title"})
_PARAGRAPHS = frozenset(
    {"blockquote", "h1", "h2", "h3", "h4", "h5", "h6", "ol", "p", "pre", "table", "ul"}
)
_LINES = frozenset({"article", "div", "footer", "header", "hr", "li", "section", "tr"})
_CELLS = frozenset({"td", "th"})


def text_of_html(source: str) -> str:
    """What a person reads of a page: paragraphs, lines, list items, addresses of links."""
    reader = _Reader()
    for chunk in source.split("<"):
        reader.take(chunk)
    lines = (" ".join(line.split()) for line in "".join(reader.written).split("\n"))
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip() + "\n"


class _Reader:
    """Takes what is between two `<`, of which the first has text only."""

    def __init__(self) -> None:
        self.written: list[str] = []
        self._is_first = True
        self._in_comment = False
        self._unread: str | None = None
        self._address = ""
        self._since_link = 0

    def take(self, chunk: str) -> None:
        if self._is_first:
            self._is_first = False
            self._write(chunk)
            return
        if self._in_comment or (chunk.startswith("!--") and self._unread is None):
            _, ends, after = chunk.partition("-->")
            self._in_comment = not ends
            self._write(after)
            return
        name = _NAME.match(chunk)
        tag, ends, after = chunk.partition(">")
        if name is None and not chunk.startswith(("!", "?", "/")):
            self._write("<" + chunk)  # no tag: a sign of its own
            return
        if name is not None:
            self._tag(name.group(1).lower(), tag, is_end=chunk.startswith("/"))
        if ends:
            self._write(after)

    def _tag(self, name: str, tag: str, *, is_end: bool) -> None:
        if self._unread is not None:
            if is_end and name == self._unread:
                self._unread = None
            return
        if name in _UNREAD:
            self._unread = None if is_end else name
        elif name in _PARAGRAPHS:
            self.written.append("\n\n")
        elif name == "br":
            self.written.append("\n")
        elif name in _LINES:
            self._line()
            self.written += ["- "] if name == "li" and not is_end else []
        elif name in _CELLS and is_end:
            self.written.append(" ")
        elif name == "a":
            self._link(tag, is_end=is_end)

    def _line(self) -> None:
        """Begin a line, unless this one is empty."""
        if self.written and not self.written[-1].endswith("\n"):
            self.written.append("\n")

    def _link(self, tag: str, *, is_end: bool) -> None:
        if not is_end:
            found = _HREF.search(tag)
            address = html.unescape(next(filter(None, found.groups()), "")) if found else ""
            self._address = address if address.startswith(_LINKED) else ""
            self._since_link = len(self.written)
            return
        shown = "".join(self.written[self._since_link :]).strip()
        if self._address and shown != self._address:
            self.written.append(f" ({self._address})")
        self._address = ""

    def _write(self, text: str) -> None:
        if self._unread is None and text:
            # Line ends of the source are spaces.
            self.written.append(re.sub(r"\s+", " ", html.unescape(text)))
