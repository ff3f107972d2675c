"""Secrets in calls: trusted code gets the values, and nothing else ever holds them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import text, update

from sinas.db.base import Base
from sinas.models import Secret, SecretVisibility
from tests.factories.functions import make_function
from tests.factories.secrets import make_secret

if TYPE_CHECKING:
    import httpx

    from sinas.context import AppContext
    from sinas.worker import RunningWorker
    from tests.fixtures.client import SignIn

CANARY = "canary-9a1f-never-seen-again"
ALL = "def handler(input_data, context):\n    return context['secrets']"
KEYS = "def handler(input_data, context):\n    return sorted(context)"
# Uses the value as a caller of some API would: nothing of it is left in the result.
USE = """
import hashlib
def handler(input_data, context):
    print("signing")
    value = context["secrets"]["API_KEY"]
    if input_data.get("fail"):
        raise ValueError("the remote said no")
    return hashlib.sha256(value.encode()).hexdigest()
"""


async def execute(client: httpx.AsyncClient, name: str, given: Any = None) -> dict[str, Any]:
    answer = await client.post(f"/functions/default/{name}/execute", json={"input": given or {}})
    assert answer.status_code == 200, answer.text
    body: dict[str, Any] = answer.json()
    return body


@pytest.fixture
async def stored(context: AppContext, as_: SignIn) -> None:
    """Two shared ones, of which `user` overrides one; and one of somebody else."""
    admin, user, other = [await as_.user(who) for who in ("admin", "user", "other")]
    shared = SecretVisibility.SHARED
    await make_secret(context, admin, "a", name="A", visibility=shared)
    await make_secret(context, admin, "b", name="B", visibility=shared)
    await make_secret(context, user, "users b", name="B")
    await make_secret(context, other, "others c", name="C")


@pytest.mark.usefixtures("stored")
async def test_trusted_code_gets_shared_ones_and_its_callers_over_them(
    context: AppContext, as_: SignIn, function_worker: RunningWorker
) -> None:
    owner = await as_.user("admin")
    await make_function(context, owner, ALL, name="f", shared_pool=True)
    for who, expected in (
        ("user", {"A": "a", "B": "users b"}),
        ("other", {"A": "a", "B": "b", "C": "others c"}),
        ("admin", {"A": "a", "B": "b"}),
    ):
        assert (await execute(await as_(who), "f"))["result"] == expected


@pytest.mark.usefixtures("stored")
@pytest.mark.parametrize(
    ("names", "expected"), [(["B", "NONE"], {"B": "users b"}), ([], {}), (["C"], {})]
)
async def test_a_function_can_be_limited_to_some(
    context: AppContext,
    as_: SignIn,
    function_worker: RunningWorker,
    names: list[str],
    expected: dict[str, str],
) -> None:
    owner = await as_.user("admin")
    await make_function(context, owner, ALL, name="f", shared_pool=True, enabled_secrets=names)
    assert (await execute(await as_("user"), "f"))["result"] == expected


@pytest.mark.usefixtures("stored")
async def test_other_code_gets_none(
    context: AppContext, as_: SignIn, function_worker: RunningWorker
) -> None:
    owner = await as_.user("admin")
    await make_function(context, owner, KEYS, name="f", enabled_secrets=["A"])
    assert "secrets" not in (await execute(await as_("user"), "f"))["result"]


async def test_a_call_fails_when_one_cannot_be_decrypted(
    context: AppContext, as_: SignIn, function_worker: RunningWorker
) -> None:
    user = await as_.user("user")
    await make_secret(context, user, "a", name="A")
    await make_secret(context, user, "b", name="B")
    await make_function(context, user, ALL, name="every", shared_pool=True)
    await make_function(context, user, ALL, name="one", shared_pool=True, enabled_secrets=["A"])
    async with context.unit() as unit:
        damaged = update(Secret).where(Secret.name == "B").values(value_encrypted="damaged")
        await unit.session.execute(damaged)
    client = await as_("user")
    failed = await execute(client, "every")
    assert failed["status"] == "error"
    assert "Secret 'B' cannot be decrypted" in failed["error"]
    assert (await execute(client, "one"))["result"] == {"A": "a"}


async def stored_text(context: AppContext) -> str:
    """Every row of every table, and every key and value in Redis."""
    rows: list[str] = []
    async with context.sessions() as session:
        for table in Base.metadata.sorted_tables:
            found = await session.scalars(text(f'SELECT t::text FROM "{table.name}" t'))
            rows += [f"{table.name} {row}" for row in found]
    async for key in context.redis.scan_iter():
        rows.append(f"{key!r} {await context.redis.dump(key)!r}")
    return "\n".join(rows)


async def test_a_value_is_used_and_nowhere_else(
    context: AppContext,
    as_: SignIn,
    function_worker: RunningWorker,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    caplog.set_level("DEBUG")
    user = await as_.user("user")
    secret = await make_secret(context, user, CANARY)
    await make_function(context, user, USE, name="f", shared_pool=True)
    client, admin = await as_("user"), await as_("admin")
    good, bad = await execute(client, "f"), await execute(client, "f", {"fail": True})
    assert (good["status"], bad["status"]) == ("success", "error")
    assert "the remote said no" in bad["error"]
    paths = ["/executions", "/api/v1/secrets"]
    for key in (good["execution_id"], bad["execution_id"]):
        paths += [f"/executions/{key}", f"/executions/{key}/steps", f"/jobs/{key}"]
    answers = [await who.get(path) for who in (client, admin) for path in paths]
    kept = await stored_text(context)
    assert "signing" in kept  # what the code printed is kept
    assert secret.value_encrypted in kept
    said = str((good, bad)) + "".join(answer.text for answer in answers)
    out, err = capfd.readouterr()
    for where in (kept, said, caplog.text, out, err):
        assert CANARY not in where
