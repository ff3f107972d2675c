"""The matcher against every example of the contract, and against rubbish."""

import random
import string
from uuid import uuid4

import pytest

from sinas.auth.permissions import (
    DEFAULT_ROLES,
    MAX_KEY_LENGTH,
    REGISTRY,
    PermissionSet,
    grammar_error,
    matches,
    parse,
)
from sinas.auth.principal import Principal, permission_set, system_principal

EXAMPLES = [
    ("sinas.*:all", "sinas.agents/a/b.chat:all", True),
    ("sinas.*:all", "sinas.users.read:own", True),
    ("sinas.*:own", "sinas.users.read:all", False),
    ("sinas.*:all", "titan.x.read:own", False),
    ("sinas.agents/*/*.read:all", "sinas.agents/sales/bot.read:own", True),
    ("sinas.agents/*/*.read:own", "sinas.agents/sales/bot.read:all", False),
    ("sinas.agents/sales/*.chat:all", "sinas.agents/sales/bot.chat:all", True),
    ("sinas.agents/sales/*.chat:all", "sinas.agents/hr/bot.chat:all", False),
    ("sinas.agents/*.read:all", "sinas.agents/sales/bot.read:all", False),
    ("sinas.agents.read:all", "sinas.agents/sales/bot.read:all", False),
    ("sinas.agents.*:all", "sinas.agents/sales/bot.read:all", True),
    ("sinas.agents.*:all", "sinas.agents.create:own", True),
    ("sinas.agents/*/*.create:own", "sinas.agents.create:own", False),
    ("sinas.agents/*/*.*:own", "sinas.agents/a/b.update:own", True),
    ("sinas.collections/*/*.create:own", "sinas.collections/docs/*.create:own", True),
    ("sinas.collections/docs/*.create:own", "sinas.collections/docs/*.create:own", True),
    ("sinas.collections/docs/x.create:own", "sinas.collections/docs/*.create:own", False),
    ("sinas.functions/m/send.execute:own", "sinas.functions/m/send.execute:own", True),
    ("sinas.functions/m/sen*.execute:own", "sinas.functions/m/send.execute:own", False),
    ("sinas.webhooks.*:own", "sinas.webhooks.read:own", True),
    ("sinas.webhooks.*:own", "sinas.webhooks.read:all", False),
    ("sinas.webhooks.read:*", "sinas.webhooks.read:all", True),
    ("*.users.read:all", "sinas.users.read:own", True),
    ("titan.*:own", "titan.student_profile.read:own", True),
    ("titan.*.get:own", "titan.content.get:own", True),
    ("sinas:all", "sinas.users.read:own", False),
    ("sinas.users.read", "sinas.users.read:own", False),
]
RULES = [
    # Scopes: all and * satisfy own and all, own only own.
    ("sinas.users.read:*", "sinas.users.read:own", True),
    ("sinas.users.read:all", "sinas.users.read:*", True),
    ("sinas.users.read:own", "sinas.users.read:*", False),
    # A last base segment * and an action * compare by prefix, at any depth.
    ("sinas.*.read:all", "sinas.a.b.read:own", True),
    ("sinas.*.read:all", "sinas.a.b.update:own", False),
    ("sinas.a.*:all", "sinas.a.b.c.read:own", True),
    ("sinas.a.*:all", "sinas.b.c.read:own", False),
    ("sinas.*.read:all", "sinas.read:own", False),
    # A path: covered by action * or base *, never asked for by a pathless check.
    ("sinas.*.read:all", "sinas.agents/a/b.read:all", True),
    ("sinas.agents/a/b.*:all", "sinas.agents.read:all", False),
    ("sinas.agents/a/b/c.read:all", "sinas.agents/a/b.read:all", False),
    # A dot inside the last segment of a path stays in the path.
    ("sinas.agents/a/b.c.read:all", "sinas.agents/a/b.c.read:own", True),
    ("sinas.agents/a/*.read:all", "sinas.agents/a/b.c.read:own", True),
    # Exact keys match whatever they are.
    ("rubbish", "rubbish", True),
]


@pytest.mark.parametrize(("held", "wanted", "granted"), EXAMPLES + RULES)
def test_matches(held, wanted, granted):
    assert matches(held, wanted) is granted
    assert PermissionSet.of([held]).grants(wanted) is granted


def test_any_key_of_a_set_suffices_and_false_grants_nothing():
    held = permission_set({"sinas.users.read:own": True, "sinas.*:all": False})
    assert held.grants("sinas.users.read:own")
    assert not held.grants("sinas.agents.create:own")


def test_false_is_no_deny():
    held = permission_set({"sinas.users.*:all": True, "sinas.users.read:all": False})
    assert held.grants("sinas.users.read:all")


def principal(grants, limit=None):
    return Principal(
        user_id=uuid4(),
        email="a@example.com",
        roles=(),
        grants=PermissionSet.of(grants),
        credential="token",
        limit=None if limit is None else PermissionSet.of(limit),
    )


@pytest.mark.parametrize(
    ("grant", "own", "may"),
    [
        ("sinas.agents/*/*.read:all", False, True),
        ("sinas.agents/*/*.read:own", True, True),
        ("sinas.agents/*/*.read:own", False, False),
        ("sinas.agents/sales/bot.read:all", False, True),
        ("sinas.agents/sales/other.read:all", True, False),
        ("sinas.agents.read:all", True, False),
    ],
)
def test_owner_rule_for_one_row(grant, own, may):
    assert principal([grant]).can_on("agents", "sales", "bot", "read", own=own) is may


def test_a_list_shows_named_rows_only_and_by_their_scope():
    """A right on one item opens that item, not its namespace."""
    held = principal(["sinas.agents/sales/bot.read:all", "sinas.agents/hr/*.read:own"])
    ((*grants,),) = held.path_grants("agents", "read")
    assert {(g.namespace, g.name, g.every_owner) for g in grants} == {
        ("sales", "bot", True),
        ("hr", None, False),
    }
    assert held.can_somewhere("agents", "read")
    assert not held.can_somewhere("agents", "update")


@pytest.mark.parametrize(
    "grant",
    [
        "sinas.agents.create:own",
        "sinas.agents/*/*.create:own",
        "sinas.agents/sales/*.create:own",
        "sinas.agents/sales/bot.create:all",
    ],
)
def test_create_accepts_path_and_pathless_grants(grant):
    assert principal([grant]).can_create("agents", "sales", "bot")
    assert not principal([grant.replace("create", "read")]).can_create("agents", "sales", "bot")


def test_users_may_create_every_kind_they_own():
    held = principal(DEFAULT_ROLES["Users"])
    for kind in ("agents", "functions", "skills", "manifests", "templates", "connectors"):
        assert held.can_create(kind, "any", "thing"), kind


def test_a_limit_takes_away_and_never_adds():
    limited = principal(["sinas.users.read:own"], limit=["sinas.*:all"])
    assert limited.can("sinas.users.read:own")
    assert not limited.can("sinas.users.read:all")
    assert not principal(["sinas.*:all"], limit=[]).can("sinas.users.read:own")


def test_the_system_principal_may_do_everything_of_sinas():
    system = system_principal(uuid4(), "admin@example.com")
    assert system.can("sinas.users.delete:all")
    assert system.can_create("agents", "a", "b")


@pytest.mark.parametrize("key", [key for keys in DEFAULT_ROLES.values() for key in keys])
def test_default_keys_are_sound_and_name_registered_actions(key):
    assert grammar_error(key) is None
    parsed = parse(key)
    assert parsed is not None
    if key != "sinas.*:all":
        actions = {row.resource: row.actions for row in REGISTRY}
        assert parsed.action in actions[parsed.base[1]]


@pytest.mark.parametrize(
    "key",
    [held for held, _, _ in EXAMPLES if held not in ("sinas:all", "sinas.users.read")],
)
def test_grammar_accepts_what_can_grant(key):
    assert grammar_error(key) is None


def test_names_of_agents_can_be_written():
    key = "sinas.agents/sales/My bot (v2): x.chat:all"
    assert grammar_error(key) is None
    assert matches(key, "sinas.agents/sales/My bot (v2): x.chat:own")


@pytest.mark.parametrize(
    "key",
    [
        "",
        "sinas:all",
        "sinas.users.read",
        "sinas.users.read:mine",
        "sinas.users.read:own:own",
        "sinas..read:own",
        ".users.read:own",
        "sinas.users.:own",
        "sinas.agents//bot.read:own",
        "sinas.agents/a/.read:own",
        "sinas.agents/a.b/read:own",
        "sinas.us ers.read:own",
        "sinas.us:ers.read:own",
        "sinas.users.re ad:own",
        "sinas.agents/sales/ bot.read:own",
        "sinas.agents/sales/my\tbot.read:own",
        "sinas.agents/sales/my\u2003bot.read:own",
        "sinas.users.read:own\n",
        "sinas.users.\x00read:own",
        "sinas." + "a" * MAX_KEY_LENGTH + ".read:own",
    ],
)
def test_grammar_refuses_what_never_grants(key):
    assert grammar_error(key)


def test_rubbish_never_raises():
    dice = random.Random(20_240_401)
    alphabet = "sinas.users*/:ownall" + string.printable + "äß漢\x00\ud800"
    for _ in range(20_000):
        held, wanted = ("".join(dice.choices(alphabet, k=dice.randrange(40))) for _ in range(2))
        parsed = parse(held)
        assert parsed is None or parsed.scope in ("own", "all", "*")
        assert matches(held, wanted) in (True, False)
        if grammar_error(held) is None:
            assert parsed is not None
            assert all((*parsed.base, *parsed.path, parsed.action))
