"""Which addresses may be reached from here on behalf of users.

Public ones, and those an operator named. Never this machine, its neighbours, other private
networks or the metadata services of clouds, whatever name they are reached by: names are
resolved here, every address is checked, and the connection goes to the checked address.
"""

import asyncio
import socket
from collections.abc import Sequence
from ipaddress import IPv4Address, IPv6Address, ip_address

import psutil

from sinas.errors import SinasError
from sinas.kit.addresses import Network, parse_networks

Address = IPv4Address | IPv6Address

_RESOLVE_SECONDS = 10.0
# Carry an IPv4 address of their own: NAT64, its local-use form, and 6to4 (RFC 6052, 8215, 3056).
_EMBEDDING = parse_networks("64:ff9b::/96,64:ff9b:1::/48,2002::/16")


class EgressError(SinasError):
    """A destination that may not be reached, or whose name leads nowhere."""

    code = "egress_refused"


class EgressPolicy:
    """What may be reached.

    Args:
        allow: Networks that may be reached although they are private.
        deny: Host and port pairs that may never be reached: the platform's own stores, wherever
            they are.
    """

    def __init__(self, allow: Sequence[Network] = (), deny: Sequence[tuple[str, int]] = ()) -> None:
        self._allow = tuple(allow)
        self._deny = tuple(deny)

    async def resolve(self, host: str, port: int) -> list[Address]:
        """Addresses of `host` that may be connected to on `port`, in the resolver's order.

        Raises:
            EgressError: The name has no address, or one of them may not be reached. One bad
                address refuses the name: it would be the one to connect to next time.
        """
        denied = {(address, at) for name, at in self._deny for address in await _addresses(name)}
        found = await _addresses(host)
        if not found:
            raise EgressError(f"The host '{host}' cannot be found.")
        own = _own_addresses()
        for address in found:
            if (address, port) in denied or not self.allows(address, own):
                raise EgressError(
                    f"'{host}' may not be reached: {address} is not a public address."
                )
        return found

    def allows(self, address: Address, own: frozenset[Address] = frozenset()) -> bool:
        """Whether an address may be reached; `own` are this machine's."""
        plain = _embedded(address)
        if any(plain in network for network in self._allow):
            return True
        return plain.is_global and not plain.is_multicast and plain not in own


def _embedded(address: Address) -> Address:
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


def _own_addresses() -> frozenset[Address]:
    return frozenset(
        ip_address(one.address.partition("%")[0])
        for interface in psutil.net_if_addrs().values()
        for one in interface
        if one.family in (socket.AF_INET, socket.AF_INET6)
    )


async def _addresses(host: str) -> list[Address]:
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(_RESOLVE_SECONDS):
            found = await loop.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError, TimeoutError):
        return []
    addresses = (ip_address(str(sockaddr[0]).partition("%")[0]) for *_, sockaddr in found)
    return list(dict.fromkeys(addresses))
