"""Starts a sandbox: `python -I -c BOOT CONFIG`, where BOOT imports this module."""

import sys

from . import preload  # noqa: F401 - for its effect
from .isolate import enter
from .seccomp import restrict
from .server import forget_path, parse, serve


def main() -> None:
    """Run the sandbox that the last argument describes."""
    config = parse(sys.argv[-1])
    forget_path()
    if config.isolation:
        enter(config.isolation)
    restrict()
    serve(config)


if __name__ == "__main__":
    main()
