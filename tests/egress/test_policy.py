"""Spellings and tricks by which an address that may not be reached is asked for."""

from collections.abc import Callable
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address, ip_address

import psutil
import pytest

from sinas.egress.policy import (
    Address,
    EgressError,
    EgressPolicy,
    HostNotFoundError,
    look_up,
    stores,
)
from sinas.kit.addresses import parse_networks
from sinas.settings import GROUPS, DatabaseSettings, RedisSettings, SandboxSettings, Settings

PUBLIC = "93.184.215.14"

# Resolved by the system, as a caller's words would be.
SPELLINGS = [
    "127.0.0.1",
    "127.1",
    "127.0.1",
    "127.255.255.254",
    "2130706433",  # decimal
    "0x7f000001",
    "0x7f.0.0.1",
    "0177.0.0.1",  # octal
    "017700000001",
    "0",
    "0.0.0.0",
    "localhost",
    "LOCALHOST",
    "localhost.",
    "::1",
    "0:0:0:0:0:0:0:1",
    "::",
    "::ffff:127.0.0.1",
    "::ffff:7f00:1",
    "::127.0.0.1",
    "10.0.0.1",
    "0xa000001",
    "012.0.0.1",
    "172.16.0.1",
    "172.31.255.255",
    "192.168.1.1",
    "3232235777",  # 192.168.1.1
    "169.254.169.254",
    "0xA9FEA9FE",
    "2852039166",
    "::ffff:169.254.169.254",
    "64:ff9b::169.254.169.254",  # NAT64
    "64:ff9b::a9fe:a9fe",
    "64:ff9b:1::10.0.0.1",
    "2002:a9fe:a9fe::1",  # 6to4
    "2002:7f00:1::",
    "2001:0:53aa:64c:0:fffe:5601:5601",  # Teredo
    "fd00:ec2::254",
    "fe80::1",
    "fec0::1",
    "fc00::1",
    "100.64.0.1",
    "100.100.100.200",
    "168.63.129.16",
    "192.0.0.192",
    "192.88.99.1",
    "198.18.0.1",
    "224.0.0.1",
    "240.0.0.1",
    "255.255.255.255",
    "ff02::1",
    "2001:db8::1",
    "3fff::1",
    "5f00::1",
    "4000::1",
]


@dataclass
class Names:
    """A resolver that answers each name with the next of its answers, the last one for good."""

    answers: dict[str, list[list[str]]]
    asked: list[str] = field(default_factory=list)

    async def __call__(self, host: str) -> list[Address]:
        self.asked.append(host)
        known = self.answers.get(host)
        if known is None:
            return await look_up(host)
        found = known.pop(0) if len(known) > 1 else known[0]
        return [ip_address(one) for one in found]


def settings_with(**groups: object) -> Settings:
    made: dict[str, object] = {name: group() for name, group in GROUPS.items()}
    return Settings(**{**made, **groups})  # type: ignore[arg-type]


@pytest.mark.parametrize("host", SPELLINGS)
async def test_what_is_not_public_is_refused(host: str) -> None:
    with pytest.raises(EgressError):
        await EgressPolicy().resolve(host, 80)


@pytest.mark.parametrize(
    "address",
    [PUBLIC, "1.1.1.1", "2606:4700:4700::1111", f"64:ff9b::{PUBLIC}", "2002:5db8:d70e::1"],
)
async def test_what_is_public_is_allowed(address: str) -> None:
    assert await EgressPolicy().resolve(address, 443) == [ip_address(address)]


@pytest.mark.parametrize("private", ["10.1.2.3", "169.254.169.254", "127.0.0.1", "::1"])
async def test_a_name_is_refused_for_any_of_its_addresses(private: str) -> None:
    names = Names({"one.test": [[private]], "two.test": [[PUBLIC, private]]})
    for host in names.answers:
        with pytest.raises(EgressError, match=f"'{host}' may not be reached"):
            await EgressPolicy(lookup=names).resolve(host, 80)


@pytest.mark.parametrize(
    ("of", "setting"),
    [(EgressPolicy.of, "EGRESS_ALLOW_HOSTS"), (EgressPolicy.of_functions, "SANDBOX_EGRESS_ALLOW")],
    ids=["platform", "functions"],
)
async def test_where_a_name_leads_is_told_to_nobody(
    of: Callable[..., EgressPolicy], setting: str
) -> None:
    """Whoever may make a connector would learn the names of the operator's network from it."""
    names = Names({"db.corp": [["10.1.2.3"]], "store.corp": [["10.1.2.4"]]})
    redis = RedisSettings(url="redis://store.corp:6390")
    policy = of(settings_with(redis=redis), lookup=names)
    with pytest.raises(EgressError) as refused:
        await policy.resolve("db.corp", 80)
    assert refused.value.message == (
        f"'db.corp' may not be reached: it has no public address, and {setting} does not name it."
    )
    assert str(refused.value.address) == "10.1.2.3"  # for the log
    with pytest.raises(EgressError) as refused:
        await policy.resolve("store.corp", 6390)
    assert "10.1.2.4" not in refused.value.message


async def test_what_was_checked_is_what_is_returned() -> None:
    names = Names({"rebind.test": [[PUBLIC], ["127.0.0.1"]]})
    policy = EgressPolicy(lookup=names)
    assert await policy.resolve("rebind.test", 80) == [ip_address(PUBLIC)]
    assert names.asked == ["rebind.test"]
    with pytest.raises(EgressError):
        await policy.resolve("rebind.test", 80)


async def test_this_machines_own_addresses_are_refused() -> None:
    names = {str(one) for one in _own() if not one.is_loopback}
    policy = EgressPolicy()
    for address in names:
        with pytest.raises(EgressError):
            await policy.resolve(address, 80)
    own = frozenset({IPv4Address(PUBLIC)})
    assert not policy.allows(IPv4Address(PUBLIC), own)
    assert not policy.allows(IPv6Address(f"::ffff:{PUBLIC}"), own)


async def test_an_operator_may_allow_private_networks() -> None:
    policy = EgressPolicy(parse_networks("10.1.0.0/16, ::1"))
    for host in ("10.1.2.3", "::ffff:10.1.2.3", "::1"):
        assert await policy.resolve(host, 80)
    for host in ("10.2.0.1", "127.0.0.1"):
        with pytest.raises(EgressError):
            await policy.resolve(host, 80)


@pytest.mark.parametrize(
    ("host", "port"),
    [
        ("10.1.2.3", 5432),
        ("::ffff:10.1.2.3", 5432),
        ("64:ff9b::10.1.2.3", 5432),
        ("167838211", 5432),
        ("alias.test", 5432),
        ("DB.test", 5432),
        ("10.1.2.3", 6390),
        ("cache.test", 6390),
    ],
)
async def test_the_stores_are_refused_even_where_they_are_allowed(host: str, port: int) -> None:
    at = ["10.1.2.3"]
    names = Names({name: [at] for name in ("db.test", "DB.test", "cache.test", "alias.test")})
    settings = settings_with(
        database=DatabaseSettings(url="postgresql://u:p@db.test/sinas"),
        redis=RedisSettings(url="redis://:secret@cache.test:6390/0"),
        sandbox=SandboxSettings(egress_allow="10.0.0.0/8,64:ff9b::/96"),
    )
    policy = EgressPolicy.of_functions(settings, lookup=names)
    with pytest.raises(EgressError, match="the platform's"):
        await policy.resolve(host, port)
    assert await policy.resolve(host, 443)


@pytest.mark.parametrize(
    ("database", "redis", "found"),
    [
        ("postgresql://u@h/d", "rediss://r", {("h", 5432), ("r", 6379)}),
        ("postgresql://u@h:1/d?host=/tmp", "unix:///r.sock", {("h", 1)}),
        (
            "postgresql:///d?host=a:7&host=b",
            "redis://",
            {("a", 7), ("b", 5432), ("localhost", 6379)},
        ),
        ("postgresql://u@/d?host=/run/pg", "unix:///r.sock", set()),
        ("", "", set()),
    ],
)
def test_where_the_stores_are(database: str, redis: str, found: set[tuple[str, int]]) -> None:
    settings = settings_with(
        database=DatabaseSettings(url=database), redis=RedisSettings(url=redis)
    )
    assert set(stores(settings)) == found


async def test_a_name_that_leads_nowhere() -> None:
    with pytest.raises(HostNotFoundError, match=r"'no\.such\.invalid' cannot be found"):
        await EgressPolicy().resolve("no.such.invalid", 80)


def _own() -> list[IPv4Address]:
    return [
        IPv4Address(one.address)
        for interface in psutil.net_if_addrs().values()
        for one in interface
        if one.family.name == "AF_INET"
    ]
