"""Calling operations: what is read first, then requests that hold no transaction."""

import asyncio
import time
from collections.abc import Collection
from dataclasses import dataclass
from typing import Final

import structlog

from sinas.auth.principal import Principal
from sinas.context import AppContext
from sinas.egress.client import Answer
from sinas.egress.policy import EgressError
from sinas.egress.urls import EgressUrlError
from sinas.errors import BadRequestError, FieldError, NotFoundError, UpstreamError
from sinas.kit.json_text import NotJsonError, encode
from sinas.kit.json_types import JsonObject
from sinas.kit.jsonschema import compile_schema
from sinas.kit.time import utcnow
from sinas.resources.connectors.answers import CallResult, result_of
from sinas.resources.connectors.credentials import Credential, Credentials
from sinas.resources.connectors.paths import placeholders
from sinas.resources.connectors.requests import Prepared, prepare, without_rivals
from sinas.resources.connectors.retries import (
    MAX_TOTAL_SECONDS,
    is_repeatable,
    is_worth_repeating,
    may_follow,
    wait_seconds,
)
from sinas.resources.connectors.targets import Target, operation_of, target_by_name
from sinas.resources.connectors.writing import query

log = structlog.get_logger(__name__)

_MAX_REDIRECTS: Final = 5
# More is parsed in a thread: other requests would wait for it.
_MUCH_BYTES: Final = 256 * 1024


class TooLargeAnswerError(UpstreamError):
    """The service answered with more than is taken. What was asked for was done."""


@dataclass(frozen=True, slots=True)
class ConnectorCalls:
    """Calls by one caller."""

    context: AppContext
    principal: Principal

    async def test(
        self, namespace: str, name: str, operation_name: str, arguments: JsonObject
    ) -> CallResult:
        """Call an operation of a connector the caller may read, be it active or not.

        Raises:
            NotFoundError: No such connector, or the caller may not read it.
            BadRequestError: No such operation, or as `call`.
            UpstreamError: As `call`.
        """
        async with self.context.statement_sessions() as session:
            target = await target_by_name(session, namespace, name)
            if target is None or not target.is_readable_by(self.principal):
                raise NotFoundError(f"Connector '{namespace}/{name}' not found")
            operation = await operation_of(session, target.id, operation_name)
        if operation is None:
            raise BadRequestError(
                f"The connector '{target.reference}' has no operation '{operation_name}'."
            )
        return await self.call(target, operation, arguments)

    async def call(
        self,
        target: Target,
        operation: JsonObject,
        arguments: JsonObject,
        fixed: Collection[str] = (),
    ) -> CallResult:
        """Ask the service; its error statuses are results.

        Args:
            target: The connector.
            operation: As it is stored.
            arguments: By name.
            fixed: Names of arguments that win over others that go to the same place.

        Raises:
            BadRequestError: The arguments break the operation's schema or cannot be sent, the
                credentials are missing, or the address may not be reached.
            ForbiddenError: The credentials may not be sent there.
            UpstreamError: There is no whole answer in time, or too large a one.
        """
        if elsewhere := operation.get("base_url"):
            # Before credentials are looked for: whether they may go there is another question.
            target = target.at(str(elsewhere))
        prepared = prepare(operation, await _validated(operation, arguments, fixed), fixed)
        sending = _Sending(self.context, self.principal, target, operation, prepared)
        began = time.perf_counter()
        answer, secrets = await sending.answer()
        elapsed_ms = (time.perf_counter() - began) * 1000
        mapping = str(operation.get("response_mapping") or "json")
        if len(answer.body) > _MUCH_BYTES:
            return await asyncio.to_thread(result_of, answer, mapping, secrets, elapsed_ms)
        return result_of(answer, mapping, secrets, elapsed_ms)


class _Sending:
    """One call: attempts, until one has an answer that stays."""

    def __init__(
        self,
        context: AppContext,
        principal: Principal,
        target: Target,
        operation: JsonObject,
        prepared: Prepared,
    ) -> None:
        self._context = context
        self._credentials = Credentials(context, principal)
        self._target = target
        self._operation = operation
        self._prepared = prepared
        self._repeatable = is_repeatable(operation)
        self._until = time.monotonic() + MAX_TOTAL_SECONDS

    async def answer(self) -> tuple[Answer, tuple[str, ...]]:
        """The answer, and the secrets that were sent for it."""
        credential = await self._credentials.of(self._target)
        secrets = credential.secrets
        got = await self._attempts(credential)
        if got.status == 401 and credential.renews:
            # The service may have withdrawn the token before its time.
            credential = await self._credentials.of(self._target, refused=credential)
            secrets += credential.secrets
            if self._repeatable:
                got = await self._attempts(credential)
        if not got.is_whole:
            raise TooLargeAnswerError(
                f"The answer of '{self._target.reference}' has more than "
                f"{self._context.settings.egress.max_response_bytes} bytes."
            )
        return got, secrets

    async def _attempts(self, credential: Credential) -> Answer:
        most = int(str(self._target.retry.get("max_attempts") or 1))
        attempt = 1
        while True:
            try:
                answer = await self._send(credential)
            except EgressError as error:
                raise BadRequestError(error.message, [FieldError("base_url", error.message)]) from (
                    error
                )
            except EgressUrlError as error:
                raise BadRequestError(error.message) from error
            except UpstreamError as error:
                self._note(attempt, type(error).__name__)
                wait = self._wait(attempt, None)
                can_wait = may_follow(error, repeatable=self._repeatable)
                if attempt >= most or not can_wait or wait is None:
                    raise
            else:
                self._note(attempt, answer.status)
                wait = self._wait(attempt, answer.headers.get("retry-after"))
                is_final = not (self._repeatable and is_worth_repeating(answer.status))
                if attempt >= most or is_final or wait is None:
                    return answer
            await asyncio.sleep(wait)
            attempt += 1

    async def _send(self, credential: Credential) -> Answer:
        prepared, target = self._prepared, self._target
        pairs = list(prepared.query)
        for name, value in credential.query.items():
            pairs = without_rivals(pairs, name) + query(name, value, "form", explode=False)
        seconds = min(float(target.timeout_seconds), max(self._until - time.monotonic(), 0.001))
        return await self._context.http.request(
            prepared.method,
            _joined(target.base_url, prepared.path, pairs),
            headers=self._headers(credential),
            content=prepared.content,
            timeout_seconds=seconds,
            max_bytes=self._context.settings.egress.max_response_bytes,
            max_redirects=_MAX_REDIRECTS,
        )

    def _headers(self, credential: Credential) -> dict[str, str]:
        """Later ones win: arguments', the connector's own, what lets the request in."""
        prepared = self._prepared
        headers = {} if self._target.is_elsewhere else self._target.headers
        own = {name: str(text) for name, text in headers.items()}
        layers: list[dict[str, str]] = [dict(prepared.headers), own, credential.headers]
        if prepared.content_type is not None:
            kind = {"Content-Type": prepared.content_type}
            # Only what was written knows the boundary between its parts.
            layers.insert(2 if prepared.content_type.startswith("multipart/") else 0, kind)
        merged: dict[str, tuple[str, str]] = {}
        for layer in layers:
            merged |= {name.lower(): (name, text) for name, text in layer.items()}
        return dict(merged.values())

    def _wait(self, attempt: int, retry_after: str | None) -> float | None:
        """Seconds until the next attempt; None where there is no time for one."""
        backoff = str(self._target.retry.get("backoff") or "none")
        seconds = wait_seconds(backoff, attempt, retry_after, utcnow())
        return seconds if time.monotonic() + seconds < self._until else None

    def _note(self, attempt: int, outcome: int | str) -> None:
        # Never the URL: it may carry a key, or what a user asked for.
        log.info(
            "connectors.called",
            connector=self._target.reference,
            operation=self._operation["name"],
            attempt=attempt,
            outcome=outcome,
        )


def _joined(base_url: str, path: str, pairs: list[tuple[str, str]]) -> str:
    url = base_url if not path else f"{base_url.rstrip('/')}/{path.lstrip('/')}"
    return f"{url}?{'&'.join(f'{n}={v}' if v else n for n, v in pairs)}" if pairs else url


async def _validated(
    operation: JsonObject, arguments: JsonObject, fixed: Collection[str]
) -> JsonObject:
    """The arguments, with the types the schema names.

    Raises:
        BadRequestError: They break it; each place is named.
    """
    parameters = operation["parameters"]
    assert isinstance(parameters, dict)
    try:
        encode(arguments)
    except NotJsonError as error:
        raise BadRequestError(f"parameters: the input {error}") from None
    schema = compile_schema(parameters)
    given = schema.coerce(arguments)
    errors = [
        FieldError(".".join(("parameters", *map(str, found.path))), found.message)
        for found in (
            await asyncio.to_thread(schema.violations, given)
            if schema.is_costly
            else schema.violations(given)
        )
    ]
    errors += [
        FieldError(f"parameters.{name}", "is no parameter of the operation")
        for name in _unknown(operation, parameters, given)
        if name not in fixed
    ]
    if errors:
        raise BadRequestError(f"{errors[0].field}: {errors[0].message}", errors)
    return given


def _unknown(operation: JsonObject, parameters: JsonObject, given: JsonObject) -> list[str]:
    """Arguments that nobody declared, where anything is declared at all.

    They would be sent on as they are, and could be another name of something that is fixed.
    """
    declared = parameters.get("properties")
    if not isinstance(declared, dict) or not declared or parameters.get("additionalProperties"):
        return []
    known = {*declared, *placeholders(str(operation["path"]))}
    return [name for name in given if name not in known]
