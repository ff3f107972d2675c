"""Rules over what the registry declares: routes, jobs, sweeps, settings."""

from collections import Counter
from collections.abc import Iterator
from datetime import timedelta
from typing import Annotated, Any

import pytest
from fastapi import APIRouter, Depends

from sinas.adapters.openai import endpoints as openai
from sinas.queue.job import AnyJob, Queue, job
from sinas.registry import RESOURCES
from sinas.web import health
from sinas.web.deps import permitted
from tests.architecture import rules
from tests.contract.routes import PUBLIC_ROUTES
from tests.fixtures.configuration import variables

PUBLIC = frozenset(PUBLIC_ROUTES)
NONE_PUBLIC: frozenset[tuple[str, str]] = frozenset()


def routers() -> Iterator[tuple[APIRouter, frozenset[tuple[str, str]]]]:
    """Every router with the routes that may be public there."""
    for resource in RESOURCES:
        if resource.management is not None:
            yield resource.management, NONE_PUBLIC
        if resource.runtime is not None:
            yield resource.runtime, PUBLIC
    yield health.router, PUBLIC
    yield openai.router, NONE_PUBLIC


def jobs() -> list[AnyJob]:
    return [job for resource in RESOURCES for job in resource.jobs]


def test_every_route_has_a_permission_and_a_docstring() -> None:
    """An operation declares who may call it, and says what it does.

    Reason: a forgotten check is open to everybody and looks like working code; the docstring is
    the public documentation. Fix: take the service from `allowed(Service, resource, action)` or
    `authenticated(Service)`; if anybody may call it, add it to PUBLIC_ROUTES with a reason.
    """
    found = [fault for pair in routers() for fault in rules.route_faults(*pair)]
    assert found == []


def test_public_routes_exist() -> None:
    """Fix: take what is gone from PUBLIC_ROUTES, or a new route of that name would be open."""
    existing = {
        (method, route.path_format)
        for router, public in routers()
        if public
        for route in rules.routes_of(router)
        for method in route.methods or ()
    }
    assert PUBLIC - existing == set()


def test_route_rule_catches() -> None:
    router = APIRouter(prefix="/x")
    Guard = Annotated[object, Depends(permitted("agents", "read"))]  # noqa: N806 - a type

    def nested(_: Guard) -> int:
        return 1

    @router.get("/open")
    def open_to_all() -> None:
        """Documented."""

    @router.get("/silent")
    def silent(_: Annotated[int, Depends(nested)]) -> None: ...

    outer = APIRouter()
    outer.include_router(router)
    expected = [
        "GET /x/open: no permission, and not in PUBLIC_ROUTES",
        "GET /x/silent: no docstring",
    ]
    assert rules.route_faults(router, frozenset()) == expected
    assert rules.route_faults(router, frozenset({("GET", "/x/open")})) == expected[1:]
    assert len(rules.route_faults(outer, frozenset())) == 2


def test_jobs() -> None:
    """A job states timeout and tries, and takes JSON scalars.

    Reason: its arguments cross Redis as JSON, and whatever is not a scalar is a copy that is
    old when the job runs. Fix: pass the row's id as text and read the row in the body.
    """
    assert [fault for declared in jobs() for fault in rules.job_faults(declared)] == []


def test_job_and_sweep_names_are_unique() -> None:
    """Fix: rename one; a worker would silently run only the last job of a name."""
    sweeps = [sweep for resource in RESOURCES for sweep in resource.sweeps]
    names = Counter([*(job.name for job in jobs()), *(sweep.name for sweep in sweeps)])
    assert [name for name, times in names.items() if times > 1] == []
    assert all(sweep.every > timedelta(0) for sweep in sweeps)


def test_job_rule_catches() -> None:
    @job("executions.run", queue=Queue.FUNCTIONS, timeout=timedelta(0))
    async def no_time(context: Any, execution_id: str) -> None: ...

    @job("run", queue=Queue.FUNCTIONS, timeout=timedelta(1))
    async def row(context: Any, good: str | None, row: dict[str, Any]) -> None: ...

    assert len(rules.job_faults(no_time)) == 1
    assert len(rules.job_faults(row)) == 2


@pytest.mark.parametrize("document", ["docs/reference/settings.md", ".env.example"])
def test_every_setting_is_documented(document: str) -> None:
    """Each environment variable stands in the reference and in the example file.

    Reason: a setting nobody can find does not exist. Fix: add the variable with its default
    and its description.
    """
    text = (rules.ROOT / document).read_text()
    documented = {word.strip("`#|*,: ").partition("=")[0] for word in text.split()}
    first = {id(field): name for name, field in reversed(list(variables()))}
    assert sorted(name for name in first.values() if name not in documented) == []
