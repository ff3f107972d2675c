"""The process that reads one document: bytes on stdin, JSON on stdout, limits around it.

Files are hostile. A reader that is led astray runs out of processor time or memory here, in a
process that has no environment, may write no file and start no process, and reads one document.
"""

import resource
import sys
from collections.abc import Callable, Mapping

import orjson

from sinas.search.documents import Document, DocumentError
from sinas.search.formats import Format

Reader = Callable[[bytes, int], Document]


def reader_of(kind: Format) -> Reader:
    """The reader of a format, imported here: each has a library of its own."""
    # ruff: noqa: PLC0415
    if kind in (Format.TEXT, Format.MARKDOWN):
        from sinas.search.readers import plain

        return plain.read_text if kind == Format.TEXT else plain.read_markdown
    if kind == Format.HTML:
        from sinas.search.readers.markup import read_html

        return read_html
    if kind == Format.PDF:
        from sinas.search.readers.pdf import read_pdf

        return read_pdf
    if kind == Format.OPENDOCUMENT:
        from sinas.search.readers.opendocument import read_opendocument

        return read_opendocument
    from sinas.search.readers import office

    readers: Mapping[Format, Reader] = {
        Format.DOCX: office.read_docx,
        Format.XLSX: office.read_xlsx,
        Format.PPTX: office.read_pptx,
    }
    return readers[kind]


def limit(seconds: int, memory_bytes: int) -> None:
    """Make what follows unable to take more than this."""
    # The soft limit of processor time raises a signal that ends the process; the hard one kills.
    _set(resource.RLIMIT_CPU, seconds, seconds + 1)
    _set(resource.RLIMIT_AS, memory_bytes, memory_bytes)
    _set(resource.RLIMIT_FSIZE, 0, 0)
    _set(resource.RLIMIT_NPROC, 0, 0)
    _set(resource.RLIMIT_NOFILE, 64, 64)
    _set(resource.RLIMIT_CORE, 0, 0)


def _set(name: int, soft: int, hard: int) -> None:
    _, most = resource.getrlimit(name)
    if most != resource.RLIM_INFINITY:
        soft, hard = min(soft, most), min(hard, most)
    resource.setrlimit(name, (soft, hard))


def run(kind: Format, data: bytes, most_chars: int) -> bytes:
    """The answer: a document, or why there is none."""
    try:
        return orjson.dumps(reader_of(kind)(data, most_chars).to_json())
    except DocumentError as error:
        reason = str(error)
    except MemoryError:
        reason = "Reading it takes more memory than is allowed."
    except RecursionError:
        reason = "It is nested too deeply."
    except Exception as error:  # noqa: BLE001 - whatever a library makes of a broken file
        reason = f"It is broken, or no {kind.value} file ({type(error).__name__})."
    return orjson.dumps({"error": reason})


def main() -> None:
    """`child FORMAT MOST_CHARS SECONDS MEMORY_BYTES`."""
    kind, most_chars, seconds, memory = Format(sys.argv[1]), *map(int, sys.argv[2:5])
    limit(seconds, memory)
    sys.stdout.buffer.write(run(kind, sys.stdin.buffer.read(), most_chars))


if __name__ == "__main__":
    main()
