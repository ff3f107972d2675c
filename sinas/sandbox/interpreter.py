"""Which Python runs in a sandbox, and which wheels it takes."""

from dataclasses import dataclass
from typing import Any

from sinas.errors import UnavailableError
from sinas.kit.json_types import JsonObject
from sinas.sandbox.base import Invocation, Returned, Sandbox

_SECONDS = 30.0
# Markers as PEP 508 names them; packaging's own code for them is not in the sandbox.
_CODE = """
import os, platform, sys, sysconfig

def handler(input_data, context):
    try:
        libc = os.confstr("CS_GNU_LIBC_VERSION")
    except (ValueError, OSError):
        libc = None
    version = sys.implementation.version
    release = "" if version.releaselevel == "final" else version.releaselevel[0]
    return {
        "abi": f"cp{sys.version_info[0]}{sys.version_info[1]}{sys.abiflags}",
        "machine": sysconfig.get_platform().rpartition("-")[2],
        "glibc": libc and libc.split()[-1],
        "markers": {
            "implementation_name": sys.implementation.name,
            "implementation_version": "{0}.{1}.{2}".format(*version)
            + (f"{release}{version.serial}" if release else ""),
            "os_name": os.name,
            "platform_machine": platform.machine(),
            "platform_release": platform.release(),
            "platform_system": platform.system(),
            "platform_version": platform.version(),
            "platform_python_implementation": platform.python_implementation(),
            "python_full_version": platform.python_version(),
            "python_version": "{0}.{1}".format(*sys.version_info),
            "sys_platform": sys.platform,
        },
    }
"""
_LEGACY = {17: "manylinux2014", 12: "manylinux2010", 5: "manylinux1"}
# Wheels for other machines than this one start at the glibc their ports were defined with.
_OLDEST_GLIBC = {"x86_64": 5, "i686": 5}


@dataclass(frozen=True, slots=True, kw_only=True)
class Interpreter:
    """The Python of a worker's sandboxes.

    Attributes:
        abi: As wheels name it, such as `cp311`.
        machine: Such as `x86_64`.
        glibc: Its version, such as `2.36`; None where the C library is musl.
        markers: The environment that PEP 508 markers are evaluated in.
    """

    abi: str
    machine: str
    glibc: str | None
    markers: JsonObject

    @property
    def name(self) -> str:
        """What an environment that was built for it can be used by."""
        return f"{self.abi}-{self.machine}{'' if self.glibc else '-musl'}"

    @property
    def version(self) -> str:
        """Major and minor version."""
        return str(self.markers["python_version"])

    @property
    def platforms(self) -> tuple[str, ...]:
        """Platform tags of the wheels it takes, best first (PEP 600 and PEP 656)."""
        if self.glibc is None:
            names = ["musllinux_1_2", "musllinux_1_1"]
        else:
            newest = int(self.glibc.split(".")[1])
            names = []
            for minor in range(newest, _OLDEST_GLIBC.get(self.machine, 17) - 1, -1):
                names.append(f"manylinux_2_{minor}")
                names += [_LEGACY[minor]] if minor in _LEGACY else []
        return tuple(f"{name}_{self.machine}" for name in (*names, "linux"))


async def interpreter_of(sandbox: Sandbox) -> Interpreter:
    """Ask a sandbox which Python it runs.

    Raises:
        UnavailableError: It could not be asked.
    """
    outcome = await sandbox.run(
        Invocation(
            execution_id="interpreter",
            namespace="sinas",
            name="interpreter",
            code=_CODE,
            input=None,
            context={},
            timeout_seconds=_SECONDS,
        )
    )
    if not isinstance(outcome, Returned):
        raise UnavailableError(f"The sandbox did not say which Python it runs: {outcome}")
    found: Any = outcome.value
    return Interpreter(**found)
