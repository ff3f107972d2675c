"""Which addresses may be reached from here on behalf of users.

Public ones, and those an operator named. Never this machine, its neighbours, other private
networks or the metadata services of clouds, whatever name they are reached by: names are
resolved here, every address is checked, and the connection goes to the checked address.
"""

import asyncio
import socket
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import Executor
from ipaddress import IPv4Address, IPv6Address, ip_address
from urllib.parse import urlsplit

import psutil
from sqlalchemy import make_url

from sinas.errors import SinasError
from sinas.kit.addresses import Network, parse_networks
from sinas.settings import Settings
from sinas.settings.egress import AllowedHost

Address = IPv4Address | IPv6Address
Lookup = Callable[[str], Awaitable[list[Address]]]

_RESOLVE_SECONDS = 10.0
# Carry an IPv4 address in their last bits: NAT64, its local-use form, and the first form of all
# (RFC 6052, 8215, 4291).
_EMBEDDING = parse_networks("64:ff9b::/96,64:ff9b:1::/48,::/96")
# All public IPv6 is in here (RFC 4291); `ipaddress` calls some of the rest global.
_IPV6_PUBLIC = parse_networks("2000::/3")
# Look public, or to older versions of `ipaddress` do: protocol assignments (with a metadata
# service among them), 6to4 relays, documentation, and Azure's service of every machine.
_NOT_PUBLIC = parse_networks("192.0.0.0/24,192.88.99.0/24,3fff::/20,168.63.129.16")
_POSTGRESQL_PORT = 5432
_REDIS_PORT = 6379


class EgressError(SinasError):
    """A destination that may not be reached, or whose name leads nowhere.

    `address` is where its name leads. It is for logs: callers would learn the names and addresses
    of the operator's network from it.
    """

    code = "egress_refused"

    def __init__(self, message: str, address: Address | None = None) -> None:
        super().__init__(message)
        self.address = address


class HostNotFoundError(EgressError):
    """A name without an address."""


async def look_up(host: str, executor: Executor | None = None) -> list[Address]:
    """Addresses of a host, none if it has none. Resolving blocks a thread of `executor`."""
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(_RESOLVE_SECONDS):
            found = await loop.run_in_executor(
                executor, socket.getaddrinfo, host, None, socket.AF_UNSPEC, socket.SOCK_STREAM
            )
    except (OSError, UnicodeError, TimeoutError):
        return []
    addresses = (ip_address(str(sockaddr[0]).partition("%")[0]) for *_, sockaddr in found)
    return list(dict.fromkeys(addresses))


class EgressPolicy:
    """What may be reached.

    Args:
        allow: Networks that may be reached although they are private.
        hosts: Names and networks likewise, some of them on one port only.
        deny: Host and port pairs that may never be reached: the platform's own stores, wherever
            they are.
        lookup: Resolves names.
        setting: By which an operator allows more, for the words of a refusal.
    """

    def __init__(
        self,
        allow: Sequence[Network] = (),
        deny: Sequence[tuple[str, int]] = (),
        *,
        hosts: Sequence[AllowedHost] = (),
        lookup: Lookup = look_up,
        setting: str = "EGRESS_ALLOW_HOSTS",
    ) -> None:
        self._allow = tuple(allow)
        self._hosts = tuple(hosts)
        self._deny = tuple(deny)
        self._lookup = lookup
        self._setting = setting

    @classmethod
    def of(cls, settings: Settings, *, lookup: Lookup = look_up) -> "EgressPolicy":
        """For what the platform sends: EGRESS_ALLOW_HOSTS, less PostgreSQL and Redis."""
        return cls((), stores(settings), hosts=settings.egress.allowed, lookup=lookup)

    @classmethod
    def of_functions(cls, settings: Settings, *, lookup: Lookup = look_up) -> "EgressPolicy":
        """For what users' code sends: SANDBOX_EGRESS_ALLOW, less PostgreSQL and Redis."""
        allow = parse_networks(settings.sandbox.egress_allow)
        return cls(allow, stores(settings), lookup=lookup, setting="SANDBOX_EGRESS_ALLOW")

    async def resolve(self, host: str, port: int) -> list[Address]:
        """Addresses of `host` that may be connected to on `port`, in the resolver's order.

        Raises:
            EgressError: The name has no address, or one of them may not be reached. One bad
                address refuses the name: it would be the one to connect to next time.
        """
        denied = {
            (_plain(address), at)
            for name, at in self._deny
            if at == port
            for address in await self._lookup(name)
        }
        found = await self._lookup(host)
        if not found:
            raise HostNotFoundError(f"The host '{host}' cannot be found.")
        own = _own_addresses()
        is_named = self._names(host, port)
        for address in found:
            if (_plain(address), port) in denied:
                raise EgressError(
                    f"'{host}' may not be reached: port {port} there is the platform's.", address
                )
            if not (is_named or self.allows(address, own, port)):
                raise EgressError(
                    f"'{host}' may not be reached: it has no public address, and {self._setting} "
                    "does not name it.",
                    address,
                )
        return found

    def allows(
        self, address: Address, own: frozenset[Address] = frozenset(), port: int | None = None
    ) -> bool:
        """Whether an address may be reached; `own` are this machine's."""
        plain = _plain(address)
        allowed = [*self._allow, *(each.network for each in self._hosts_at(port) if each.network)]
        if any(one in network for network in allowed for one in (address, plain)):
            return True
        return plain not in own and _is_public(plain)

    def _names(self, host: str, port: int) -> bool:
        """Whether the operator allowed this very name, wherever it leads."""
        name = host.lower().rstrip(".")
        return any(each.name == name for each in self._hosts_at(port) if each.name)

    def _hosts_at(self, port: int | None) -> list[AllowedHost]:
        return [each for each in self._hosts if each.port in (None, port)]


def stores(settings: Settings) -> tuple[tuple[str, int], ...]:
    """Host and port of PostgreSQL and Redis, as far as they listen on the network."""
    found: list[tuple[str, int]] = []
    if settings.database.url:
        url = make_url(settings.database.url)
        more = url.query.get("host", ())
        for one in (more,) if isinstance(more, str) else more:
            name, _, port = one.rpartition(":") if one.count(":") == 1 else (one, "", "")
            found.append((name, int(port or url.port or _POSTGRESQL_PORT)))
        if url.host:
            found.append((url.host, url.port or _POSTGRESQL_PORT))
    redis = urlsplit(settings.redis.url)
    if redis.scheme in {"redis", "rediss"}:
        found.append((redis.hostname or "localhost", redis.port or _REDIS_PORT))
    return tuple((name, port) for name, port in found if not name.startswith("/"))


def _plain(address: Address) -> Address:
    """The IPv4 address inside an IPv6 one, where it carries one."""
    if isinstance(address, IPv4Address):
        return address
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    if address.sixtofour is not None:
        return address.sixtofour
    if any(address in network for network in _EMBEDDING):
        return IPv4Address(int(address) & 0xFFFFFFFF)
    return address


def _is_public(address: Address) -> bool:
    if isinstance(address, IPv6Address) and not any(address in one for one in _IPV6_PUBLIC):
        return False
    if any(address in network for network in _NOT_PUBLIC):
        return False
    return address.is_global and not address.is_multicast


def _own_addresses() -> frozenset[Address]:
    return frozenset(
        ip_address(one.address.partition("%")[0])
        for interface in psutil.net_if_addrs().values()
        for one in interface
        if one.family in (socket.AF_INET, socket.AF_INET6)
    )
