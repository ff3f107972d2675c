"""Runs pip for another interpreter: `python -P run_pip.py MARKERS ARGUMENT…`, as a script.

Two things that pip has no option for. `--python-version` chooses wheels but not environment
markers: those would be this interpreter's, so that `; python_version < "3.12"` is decided for the
wrong one. And `--only-binary` does not hold for a dependency given by URL: that would run the
build script of a source archive here.
"""

import json
import sys

from pip._internal.cli.main import main
from pip._internal.distributions.sdist import SourceDistribution
from pip._internal.exceptions import InstallationError
from pip._vendor.packaging import markers


def _refuse(distribution: SourceDistribution, *_: object, **__: object) -> None:
    raise InstallationError(
        f"{distribution.req} is not a wheel; only wheels are installed, so that no package's "
        "build script runs here."
    )


if __name__ == "__main__":
    found = json.loads(sys.argv.pop(1))
    markers.default_environment = lambda: found
    SourceDistribution.prepare_distribution_metadata = _refuse  # type: ignore[assignment]
    sys.exit(main(sys.argv[1:]))
