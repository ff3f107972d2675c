"""P5: a new container until it takes calls; failures of 100 calls at once."""

import time
from uuid import uuid4

from benchmarks.harness.calls import echo
from benchmarks.harness.load import Sample, run_load
from benchmarks.harness.row import Goal, Round, Row, figures_of, main
from benchmarks.harness.stack import Stack
from sinas.sandbox.base import Profile
from sinas.sandbox.docker import DockerSource
from sinas.sandbox.opening import call_limits
from sinas.settings import read_settings, use_defaults

CONTAINERS = 6
CALLS = 100


async def new_containers(stack: Stack) -> Sample:
    """Containers made one after the other, by the worker's own code beside the worker."""
    use_defaults({"SINAS_DATA_DIR": str(stack.processes.data_dir), "SINAS_INSTANCE_ID": "bench"})
    settings = read_settings()
    source = DockerSource(
        settings, call_limits(settings, "docker"), worker_id=str(uuid4()), progress=lambda _: None
    )
    profile = Profile(kind="sandbox", memory_mb=settings.sandbox.memory_mb)
    sample = Sample()
    await source.open()
    try:
        for _ in range(CONTAINERS):
            began = time.perf_counter()
            member = await source.create(profile)
            sample.values.append(time.perf_counter() - began)
            await member.destroy()
    finally:
        await source.aclose()
    return sample


async def measure(stack: Stack) -> Round:
    made = await new_containers(stack)
    burst = await run_load(stack.server, echo, clients=CALLS, each=1, warm_up=0)
    figures = figures_of(made)
    del figures["rate"]
    figures["failed of 100"] = len(burst.failures)
    figures["100 calls p99"] = burst.at(0.99) * 1000
    return Round(figures, burst.failures)


ROW = Row(
    id="P5",
    what="pool miss: new container ready; 100 calls at once",
    how="`DockerSource.create()` six times in a row, until the runner says it takes calls; then "
    "100 clients call `bench/echo` once, all at once.",
    goals=(Goal("p50", "<=", 600, "ms"), Goal("failed of 100", "=", 0, "")),
    measure=measure,
)

if __name__ == "__main__":
    main(ROW)
