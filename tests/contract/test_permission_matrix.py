"""Every operation of the OpenAPI documents, called by everybody.

A new operation is in the matrix by itself. It needs a body in `world.BODIES` if it takes one,
and a factory in `world.build` if it has a new path parameter; the tests say so.
"""

import asyncio
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI

from sinas.context import AppContext
from sinas.models import User
from sinas.worker import RunningWorker
from tests.architecture.rules import permission_of, routes_of
from tests.contract.routes import Operation, applications, operations
from tests.contract.world import MARK, World, build, nowhere
from tests.fixtures.client import SignIn
from tests.support.llm_upstream import LlmUpstream
from tests.support.wheels import Index

# What the default role Users may do with everybody's agents (`read:all`, `chat:all`), functions
# (`execute`, for which the contract does not look at the owner) and stores (`read_state`,
# `write_state`: of states that are their own, or shared).
SHARED_BY_DEFAULT = {
    "GET /adapters/openai/v1/models/{model_id}",
    "GET /api/v1/agents/{namespace}/{name}",
    "POST /agents/{namespace}/{agent_name}/chats",
    "POST /agents/{namespace}/{agent_name}/chats/batch",
    "POST /agents/{namespace}/{agent_name}/invoke",
    "POST /functions/{namespace}/{name}/execute",
    "POST /functions/{namespace}/{name}/execute/async",
    "POST /functions/{namespace}/{name}/execute/batch",
    "GET /files/{namespace}/{collection}",
    "POST /files/{namespace}/{collection}",
    "POST /files/{namespace}/{collection}/search",
    "GET /stores/{namespace}/{name}/states",
    "POST /stores/{namespace}/{name}/states",
}
# Where the contract tells other people's chats (403) from unknown ids (404).
TELLS_OTHERS_CHATS = {
    "POST /chats/{chat_id}/messages",
    "POST /chats/{chat_id}/messages/stream",
    "GET /chats/{chat_id}/stream/{channel_id}",
    "POST /chats/{chat_id}/approve-tool/{tool_call_id}",
    "POST /chats/{chat_id}/pending-input/{tool_call_id}",
    "POST /chats/{chat_id}/stop",
}
# Who knows the URL of a webhook is told to sign in (401) or that they may not (403).
TELLS_WEBHOOKS = {"POST /webhooks/{path}"}
# Pages for people, whatever they say.
PAGES = {"GET /connectors/oauth/callback"}
# The key's one right, and the operations that ask for it.
ONE_RIGHT = "sinas.executions.read:own"
# Calls of user code and models; nobody answers them without a worker.
NEEDS_WORKER = {
    "POST /adapters/openai/v1/chat/completions",
    "POST /agents/{namespace}/{agent_name}/invoke",
    "POST /chats/{chat_id}/messages",
    "POST /chats/{chat_id}/messages/stream",
    "POST /functions/{namespace}/{name}/execute",
}
# What `world` approves and has approved.
PACKAGES = ("new", "old")
# Tests have no mail server; what they answer with one is tested with their resource.
NEEDS_MAIL = {
    "POST /templates/{namespace}/{name}/email",
    "POST /templates/{template_id}/send",
}
_ORDER = ("GET", "POST", "PUT", "PATCH", "DELETE")
# Hangs on a store although its path does not say so.
HANGING = "/states/{state_id}"
PATIENCE = 20


@pytest.fixture(autouse=True)
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    packages = Index(tmp_path / "index", monkeypatch)
    for name in PACKAGES:
        packages.wheel(name)


@pytest.fixture
def everything(app: FastAPI) -> list[Operation]:
    """All operations, destructive ones last, deeper paths before what they hang on."""
    return sorted(
        operations(app),
        key=lambda o: (_ORDER.index(o.method), o.path != HANGING, -o.path.count("/"), o.name),
    )


@pytest.fixture
async def owner(as_: SignIn) -> User:
    return await as_.user("owner")


@pytest.fixture
async def world(context: AppContext, owner: User) -> World:
    return await build(context, owner)


async def call_all(
    client: httpx.AsyncClient, world: World, chosen: list[Operation]
) -> dict[str, httpx.Response]:
    answers = {}
    for operation in chosen:
        async with asyncio.timeout(PATIENCE):
            answers[operation.name] = await world.call(client, operation)
    return answers


def statuses(answers: dict[str, httpx.Response]) -> dict[str, int]:
    return {name: answer.status_code for name, answer in answers.items()}


def successes(answers: dict[str, httpx.Response]) -> set[str]:
    return {name for name, answer in answers.items() if answer.is_success}


def assert_sound(answers: dict[str, httpx.Response]) -> None:
    """Nothing broke, and every refusal is a problem with a sentence in it."""
    broken = {n: f"{a.status_code} {a.text}" for n, a in answers.items() if a.status_code >= 500}
    assert {broken.pop(n)[:3] for n in NEEDS_MAIL & broken.keys()} <= {"503"}
    assert {n: t for n, t in broken.items() if not n.endswith("/health")} == {}
    for name, answer in answers.items():
        if answer.is_client_error and name not in PAGES:
            body = answer.json()
            # The adapter's errors have OpenAI's shape.
            is_foreign = "/adapters/openai/" in name
            assert body["error"]["message"] if is_foreign else body["detail"], name


def assert_tells_nothing(answers: dict[str, httpx.Response]) -> None:
    assert {name for name, answer in answers.items() if MARK in answer.text} == set()


def with_parameters(chosen: list[Operation]) -> list[Operation]:
    return [operation for operation in chosen if "{" in operation.path]


async def test_anonymous(
    client: httpx.AsyncClient, world: World, everything: list[Operation]
) -> None:
    """Without credentials: 401 everywhere but on public routes, whatever the path names."""
    for where in (world, nowhere()):
        answers = await call_all(client, where, everything)
        assert_sound(answers)
        assert_tells_nothing(answers)
        closed = [operation.name for operation in everything if not operation.is_public]
        assert {n: s for n, s in statuses(answers).items() if n in closed and s != 401} == {}
        assert {answers[name].headers.get("www-authenticate") for name in closed} == {"Bearer"}


@pytest.mark.parametrize("credential", ["expired-looking.jwt.token", "sk-unknown", " ", "é"])
async def test_bad_credentials(
    client: httpx.AsyncClient, world: World, everything: list[Operation], credential: str
) -> None:
    closed = [operation for operation in everything if not operation.is_public]
    client.headers = httpx.Headers([("Authorization", f"Bearer {credential}")], encoding="utf-8")
    assert set(statuses(await call_all(client, world, closed)).values()) == {401}


@pytest.mark.parametrize("who", ["nobody", "guest", "other"])
async def test_strangers_cannot_touch_or_tell(
    app: FastAPI, as_: SignIn, world: World, everything: list[Operation], who: str
) -> None:
    """Another user's row looks as if it were not there."""
    stranger = await as_(who)
    shared = SHARED_BY_DEFAULT if who == "other" else set()
    on_rows = with_parameters(everything)
    chosen = [o for o in on_rows if o.name not in shared & NEEDS_WORKER]
    theirs = await call_all(stranger, world, chosen)
    assert_sound(theirs)
    assert_tells_nothing(theirs)
    assert successes(theirs) == shared - NEEDS_WORKER
    absent = statuses(await call_all(stranger, nowhere(), chosen))
    told = {n: (s, absent[n]) for n, s in statuses(theirs).items() if s != absent[n]}
    visible = {o.name for o in chosen if who == "other" and "/agents/" in o.name}
    known = TELLS_OTHERS_CHATS | TELLS_WEBHOOKS
    assert told.keys() - known - visible - shared == set(), told
    # What hangs on no row: lists and the caller's own affairs, with nothing of the owner's.
    lists = [o for o in everything if o not in on_rows and o.method == "GET"]
    answers = await call_all(stranger, world, lists)
    assert_sound(answers)
    assert_tells_nothing(answers)


async def test_nobody_creates_nothing(
    as_: SignIn, world: World, everything: list[Operation]
) -> None:
    """A user without a role may ask who they are, no more."""
    client = await as_("nobody")
    answers = await call_all(client, world, [o for o in everything if not o.is_public])
    created = {name for name in successes(answers) if not name.startswith("GET ")}
    assert created == {"POST /auth/check-permissions"}


async def test_a_key_with_one_right_has_one_right(
    app: FastAPI, as_: SignIn, owner: User, world: World, everything: list[Operation]
) -> None:
    """The owner's own key, limited: what its map lacks is refused although the owner may."""
    permissions = {
        f"{method} {mount}{route.path_format}": permission_of(route.dependant)
        for mount, application in applications(app).items()
        for route in routes_of(application.router)
        for method in route.methods or ()
    }
    client = await as_.key(owner, [ONE_RIGHT])
    closed = [o for o in everything if not o.is_public]
    answers = await call_all(client, world, closed)
    assert_sound(answers)
    for name in successes(answers):
        assert permissions[name] in ("executions.read", "authenticated"), name
    writes = {name for name in successes(answers) if not name.startswith("GET ")}
    assert writes == {"POST /auth/check-permissions"}
    assert "GET /executions" in successes(answers)
    empty = await as_.key(owner, [])
    assert "GET /executions" not in successes(await call_all(empty, world, closed))


@pytest.mark.parametrize("who", ["owner", "admin"])
async def test_who_may_can(
    context: AppContext,
    as_: SignIn,
    owner: User,
    everything: list[Operation],
    llm: LlmUpstream,
    agent_worker: RunningWorker,
    function_worker: RunningWorker,
    who: str,
) -> None:
    """For those who may, no operation breaks, and each call here is a complete one."""
    world = await build(context, owner, endpoint=llm.openai_url)
    client = await as_(who)
    answers = await call_all(client, world, [o for o in everything if not o.is_public])
    assert_sound(answers)
    incomplete = {n: answers[n].text for n, s in statuses(answers).items() if s == 422}
    assert incomplete == {}, "give these operations a body in tests/contract/world.py"
    refused = {n for n, s in statuses(answers).items() if s in (401, 403, 404)}
    if who == "admin":
        # Chats are their user's alone; approvals and streams hang on them.
        assert {n for n in refused if "/chats/" not in n} == ADMIN_CANNOT
    else:
        assert successes(answers) >= NEEDS_WORKER
        assert not {n for n in refused if n.startswith("GET ") and "{" in n} - OWNER_CANNOT_READ


# Built-in protections, each tested with its resource.
ADMIN_CANNOT = {
    # Private secrets are their user's alone, and so are states, at these paths.
    "GET /stores/{namespace}/{name}/states/{key}",
    "PUT /stores/{namespace}/{name}/states/{key}",
    "DELETE /stores/{namespace}/{name}/states/{key}",
    "GET /api/v1/secrets/{name}",
    "PUT /api/v1/secrets/{name}",
    "DELETE /api/v1/secrets/{name}",
}
OWNER_CANNOT_READ = {
    # Providers and other people's affairs belong to admins.
    "GET /api/v1/budgets/{budget_id}",
    "GET /api/v1/database-connections/{name}",
    "GET /api/v1/database-connections/{name}/annotations",
    "GET /api/v1/database-connections/{name}/schemas",
    "GET /api/v1/database-connections/{name}/tables",
    "GET /api/v1/database-connections/{name}/tables/{table}",
    "GET /api/v1/database-connections/{name}/tables/{table}/rows",
    "GET /api/v1/database-connections/{name}/views",
    "GET /api/v1/llm-providers/{name}",
    "GET /api/v1/roles/{name}",
    "GET /api/v1/roles/{name}/members",
    "GET /api/v1/roles/{name}/permissions",
}
