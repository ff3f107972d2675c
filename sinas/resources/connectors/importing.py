"""Importing OpenAPI documents: fetched by the guarded client, read by a process of its own."""

import asyncio
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final

import orjson
import structlog

from sinas.auth.principal import Principal
from sinas.context import AppContext
from sinas.egress.policy import EgressError
from sinas.errors import BadRequestError, FieldError, UpstreamError
from sinas.resources.connectors.schemas import OpenAPIImportRequest
from sinas.resources.connectors.service import ConnectorService

log = structlog.get_logger(__name__)

# As large as a request may be.
_MAX_BYTES: Final = 32 * 1024 * 1024
_FETCH_SECONDS: Final = 60.0
_READ_SECONDS: Final = 120.0
_MAX_REDIRECTS: Final = 5
_ACCEPTED: Final = "application/json, application/yaml;q=0.9, text/yaml;q=0.9, */*;q=0.5"
# One more document has to wait: each may take as much memory as its process is allowed.
_reading = asyncio.Semaphore(2)


@dataclass(frozen=True, slots=True, kw_only=True)
class Imported:
    """What was found, and how much of it was stored."""

    operations: list[dict[str, Any]] = field(repr=False)
    warnings: list[str]
    applied: int
    spec_title: str | None
    spec_description: str | None
    spec_base_url: str | None


@dataclass(frozen=True, slots=True)
class Imports:
    """Imports by one caller. No transaction is open while a document is fetched or read."""

    context: AppContext
    principal: Principal

    async def parse(self, request: OpenAPIImportRequest) -> Imported:
        """What a document describes; nothing is stored.

        Raises:
            BadRequestError: There is none, it cannot be fetched or read, or it describes no
                operation of a name that was asked for.
        """
        found = await self._read(request)
        described = {str(one["name"]): one for one in found["operations"]}
        wanted = described.keys() if request.operations is None else request.operations
        if missing := [name for name in wanted if name not in described]:
            problem = f"the document describes no operation '{missing[0]}'"
            raise BadRequestError(f"operations: {problem}.", [FieldError("operations", problem)])
        return Imported(
            operations=[described[name] for name in dict.fromkeys(wanted)],
            warnings=found["warnings"],
            applied=0,
            spec_title=found["title"],
            spec_description=found["description"],
            spec_base_url=found["base_url"],
        )

    async def into(self, namespace: str, name: str, request: OpenAPIImportRequest) -> Imported:
        """As `parse`; with `apply`, the operations are stored in a connector.

        Raises:
            NotFoundError: No such connector, or not visible.
            ForbiddenError: Visible, but no update grant.
            BadRequestError: As `parse`.
        """
        async with self.context.statement_unit() as unit:
            await ConnectorService(unit, self.principal).require_changeable(namespace, name)
        found = await self.parse(request)
        if not request.apply:
            return found
        async with self.context.unit() as unit:
            await ConnectorService(unit, self.principal).merge(namespace, name, found.operations)
        return Imported(
            operations=found.operations,
            warnings=found.warnings,
            applied=len(found.operations),
            spec_title=found.spec_title,
            spec_description=found.spec_description,
            spec_base_url=found.spec_base_url,
        )

    async def _read(self, request: OpenAPIImportRequest) -> dict[str, Any]:
        if (request.spec is None) == (request.spec_url is None):
            raise BadRequestError("Give the document as spec, or its address as spec_url.")
        text = request.spec if request.spec is not None else await self._fetch(request.spec_url)
        try:
            given = orjson.dumps({"text": text, "source_url": request.spec_url})
        except TypeError:
            raise _refused("holds text that is not valid Unicode") from None
        async with _reading:
            answer = await _in_child(given)
        if "error" in answer:
            raise _refused(str(answer["error"]))
        found: dict[str, Any] = answer["found"]
        return found

    async def _fetch(self, url: str | None) -> str:
        try:
            answer = await self.context.http.request(
                "GET",
                str(url),
                headers={"Accept": _ACCEPTED},
                timeout_seconds=_FETCH_SECONDS,
                max_bytes=_MAX_BYTES,
                max_redirects=_MAX_REDIRECTS,
            )
        except (EgressError, UpstreamError) as error:
            raise _unfetched(error.message) from error
        if answer.status != 200:
            raise _unfetched(f"The server answered with the status {answer.status}.")
        if not answer.is_whole:
            raise _unfetched(f"The document has more than {_MAX_BYTES} bytes.")
        return answer.body.decode("utf-8-sig", "replace")


async def _in_child(given: bytes) -> dict[str, Any]:
    """Have the document read. The child has no environment, and so none of the platform's keys."""
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, "-I", "-m", "sinas.resources.connectors.openapi"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={},
        cwd="/",
    )
    try:
        async with asyncio.timeout(_READ_SECONDS):
            out, err = await child.communicate(given)
    except TimeoutError:
        raise _refused("takes too long to be read") from None
    finally:
        if child.returncode is None:
            with suppress(ProcessLookupError):
                child.kill()
            await child.wait()
    if child.returncode != 0:
        log.warning("connectors.document_unread", code=child.returncode, tail=_tail(err))
        raise _refused("is too large or too deep to be read")
    answer: dict[str, Any] = orjson.loads(out)
    return answer


def _tail(err: bytes) -> Sequence[str]:
    """The error's last line: what is above it may quote the document."""
    return err.decode("utf-8", "replace").splitlines()[-1:]


def _refused(problem: str) -> BadRequestError:
    message = problem if problem.startswith("The ") else f"The document {problem}."
    return BadRequestError(message, [FieldError("spec", message)])


def _unfetched(message: str) -> BadRequestError:
    return BadRequestError(f"spec_url: {message}", [FieldError("spec_url", message)])
