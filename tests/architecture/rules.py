"""The checkers behind the architecture tests: each takes what it judges, so that a test can feed
it a fault and see it caught.
"""

import ast
import inspect
import sys
import typing
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import NoneType, UnionType
from typing import Any

from fastapi import APIRouter
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute

from sinas.queue.job import AnyJob

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "sinas"
FACES = frozenset({"service", "schemas", "events", "waiting"})
MAX_LINES = 500
MAX_TEST_LINES = 800


def slice_breaches(imports: Iterable[tuple[str, str]]) -> list[str]:
    """Imports of one slice's insides by another, out of (importer, imported) module names."""
    return [
        f"{importer} imports {imported}"
        for importer, imported in imports
        if (theirs := _slice_of(imported)) is not None
        and (ours := _slice_of(importer)) is not None
        and ours != theirs
        and imported.split(".")[3] not in FACES
    ]


def _slice_of(module: str) -> str | None:
    parts = module.split(".")
    return parts[2] if parts[:2] == ["sinas", "resources"] and len(parts) > 3 else None


def transaction_ends(source: str) -> list[int]:
    """Lines that mention `.commit` or `.rollback`."""
    return [
        node.lineno
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Attribute) and node.attr in {"commit", "rollback"}
    ]


def foreign_imports(source: str) -> list[str]:
    """Modules a source imports that are neither its own neighbours nor the standard library."""
    found = []
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Import(names=names):
                found += [alias.name for alias in names]
            case ast.ImportFrom(module=str(module), level=0):
                found.append(module)
    return [name for name in found if name.partition(".")[0] not in sys.stdlib_module_names]


def too_long(path: Path) -> str | None:
    """A complaint about a file above its limit."""
    limit = MAX_TEST_LINES if path.is_relative_to(ROOT / "tests") else MAX_LINES
    lines = len(path.read_text().splitlines())
    return f"{path.relative_to(ROOT)}: {lines} lines, at most {limit}" if lines > limit else None


def sources(*folders: str) -> Iterator[Path]:
    """Python files of the repository, without what tools generate."""
    for folder in folders:
        yield from sorted((ROOT / folder).rglob("*.py"))


def routes_of(router: APIRouter) -> Iterator[APIRoute]:
    """The operations of a router and of routers inside it."""
    for route in router.routes:
        if isinstance(route, APIRoute):
            yield route
            continue
        inner = getattr(route, "original_router", None) or getattr(route, "router", None)
        if isinstance(inner, APIRouter):
            yield from routes_of(inner)


def permission_of(dependant: Dependant) -> str | None:
    """The first permission that a dependency of a route, or one of theirs, declares."""
    for dependency in dependant.dependencies:
        declared = getattr(dependency.call, "permission", None) or permission_of(dependency)
        if declared:
            return str(declared)
    return None


def route_faults(router: APIRouter, public: frozenset[tuple[str, str]]) -> list[str]:
    """What is wrong with each operation: no permission, or nothing to read about it."""
    faults = []
    for route in routes_of(router):
        for method in sorted(route.methods or ()):
            # As the OpenAPI document has it: `{path}` for `{path:path}`.
            path = route.path_format
            name = f"{method} {path}"
            if permission_of(route.dependant) is None and (method, path) not in public:
                faults.append(f"{name}: no permission, and not in PUBLIC_ROUTES")
            if not (inspect.getdoc(route.endpoint) or "").strip():
                faults.append(f"{name}: no docstring")
    return faults


_JSON_SCALARS = frozenset({str, int, float, bool, NoneType})


def job_faults(job: AnyJob) -> list[str]:
    """What is wrong with a job's declaration."""
    faults = []
    if job.timeout.total_seconds() <= 0 or job.tries < 1:
        faults.append(f"{job.name}: timeout and tries must be positive")
    if not all(part.isidentifier() for part in job.name.split(".")) or job.name.count(".") != 1:
        faults.append(f"{job.name}: a job is named plural.verb")
    hints = typing.get_type_hints(job.run)
    return faults + [
        f"{job.name}: argument {name} is {hints.get(name)}, not a JSON scalar"
        for name in list(inspect.signature(job.run).parameters)[1:]
        if not _is_json(hints.get(name, Any))
    ]


def _is_json(hint: Any) -> bool:
    if isinstance(hint, UnionType) or typing.get_origin(hint) is typing.Union:
        return all(_is_json(member) for member in typing.get_args(hint))
    return hint in _JSON_SCALARS
