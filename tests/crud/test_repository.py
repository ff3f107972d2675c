"""The generic repository: grants become SQL, and agree with what `Principal.can_on` says."""

import dataclasses

import pytest

from sinas.auth.permissions import PermissionSet
from sinas.auth.principal import Principal
from sinas.context import AppContext
from sinas.crud.repository import Repository
from sinas.models import Function, User
from tests.factories.functions import make_function
from tests.factories.identity import make_user

OURS = {"sales/a", "sales/b", "home/a"}
THEIRS = {"sales/c", "secret/a"}
ALL = OURS | THEIRS


class Functions(Repository[Function]):
    model = Function
    resource = "functions"


@pytest.fixture
async def caller(context: AppContext) -> Principal:
    us, them = await make_user(context), await make_user(context)
    for owner, names in ((us, OURS), (them, THEIRS)):
        await make_all(context, owner, names)
    return await context.authenticator.by_user(us.id)


async def make_all(context: AppContext, owner: User, names: set[str]) -> None:
    for path in sorted(names):
        namespace, _, name = path.partition("/")
        await make_function(context, owner, namespace=namespace, name=name)


def holding(caller: Principal, *keys: str, limit: tuple[str, ...] | None = None) -> Principal:
    limited = None if limit is None else PermissionSet.of(limit)
    return dataclasses.replace(caller, grants=PermissionSet.of(keys), limit=limited)


async def visible(context: AppContext, principal: Principal, action: str = "read") -> set[str]:
    async with context.unit() as unit:
        rows = Functions(unit.session, principal)
        found = await unit.session.scalars(rows.visible(action))
        return {f"{row.namespace}/{row.name}" for row in found}


def may_read(principal: Principal, path: str) -> bool:
    namespace, _, name = path.partition("/")
    return principal.can_on("functions", namespace, name, "read", own=path in OURS)


CASES: list[tuple[tuple[str, ...], set[str]]] = [
    ((), set()),
    (("sinas.*:all",), ALL),
    (("*.*:all",), ALL),
    (("sinas.functions.*:all",), ALL),
    (("sinas.functions.*:own",), OURS),
    (("sinas.functions/*/*.read:all",), ALL),
    (("sinas.functions/*/*.read:own",), OURS),
    (("sinas.functions/*/*.*:own",), OURS),
    (("sinas.functions/sales/*.read:all",), {"sales/a", "sales/b", "sales/c"}),
    (("sinas.functions/sales/*.read:own",), {"sales/a", "sales/b"}),
    (("sinas.functions/*/a.read:all",), {"sales/a", "home/a", "secret/a"}),
    (("sinas.functions/secret/a.read:own",), set()),
    (("sinas.functions/secret/a.read:all",), {"secret/a"}),
    (("sinas.functions/secret/a.read:*",), {"secret/a"}),
    (
        ("sinas.functions/secret/a.read:all", "sinas.functions/home/*.read:own"),
        {"secret/a", "home/a"},
    ),
    (("sinas.functions/*/*.update:all",), set()),
    (("sinas.agents/*/*.read:all",), set()),
    (("sinas.functions.read:all",), set()),  # without a path it grants no row of a path
    (("other.functions/*/*.read:all",), set()),
    (("sinas.functions/sal*/*.read:all",), set()),  # a star stands for a whole part
    (("nonsense", "sinas:all", "sinas.functions/*/*.read"), set()),
]


@pytest.mark.parametrize(("keys", "expected"), CASES)
async def test_a_list_shows_what_is_granted(
    context: AppContext, caller: Principal, keys: tuple[str, ...], expected: set[str]
) -> None:
    principal = holding(caller, *keys)
    assert await visible(context, principal) == expected
    # The same question asked row by row has the same answer.
    assert {path for path in ALL if may_read(principal, path)} == expected


@pytest.mark.parametrize(("keys", "expected"), CASES)
async def test_a_limit_shows_what_both_grant(
    context: AppContext, caller: Principal, keys: tuple[str, ...], expected: set[str]
) -> None:
    assert await visible(context, holding(caller, "sinas.*:all", limit=keys)) == expected
    own = holding(caller, "sinas.functions/*/*.read:own", limit=keys)
    assert await visible(context, own) == expected & OURS
    assert await visible(context, holding(caller, limit=keys)) == set()


async def test_single_reads_follow_the_same_rule(context: AppContext, caller: Principal) -> None:
    principal = holding(caller, "sinas.functions/sales/*.read:all")
    async with context.unit() as unit:
        rows = Functions(unit.session, principal)
        seen = await rows.by_name("sales", "c")
        assert seen is not None
        assert await rows.by_id(seen.id) is seen
        assert await rows.by_name("secret", "a") is None
        assert await rows.by_name("sales", "c", "update") is None
        assert await rows.by_id(seen.id, "update") is None
