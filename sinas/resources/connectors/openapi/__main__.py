"""The process that reads documents: `python -m sinas.resources.connectors.openapi`.

Standard input is one JSON object, `{"text", "source_url"}`; standard output one, `{"found"}` or
`{"error"}`. A process of its own, because documents come from strangers: what they make a parser
do ends with the limits below, and the API neither waits for it nor keeps its memory.
"""

import resource
import sys

import orjson

from sinas.resources.connectors.openapi.documents import take
from sinas.resources.connectors.openapi.reading import DocumentError

_MAX_MEMORY_BYTES = 2 * 1024**3
_MAX_CPU_SECONDS = 120
_RECURSION = 5000


def main() -> None:
    """Read one document."""
    resource.setrlimit(resource.RLIMIT_AS, (_MAX_MEMORY_BYTES, _MAX_MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CPU, (_MAX_CPU_SECONDS, _MAX_CPU_SECONDS))
    sys.setrecursionlimit(_RECURSION)
    given = orjson.loads(sys.stdin.buffer.read())
    answer: dict[str, object]
    try:
        answer = {"found": take(given["text"], given["source_url"]).as_json()}
    except DocumentError as error:
        answer = {"error": str(error)}
    except (MemoryError, RecursionError):
        answer = {"error": "The document is too large or too deep to be read."}
    sys.stdout.buffer.write(orjson.dumps(answer))


if __name__ == "__main__":
    main()
