"""Client addresses behind reverse proxies."""

from collections.abc import Sequence
from functools import lru_cache
from ipaddress import (
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    ip_address,
    ip_network,
)

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

# One subscriber holds a whole /64, so a limit per address would be no limit.
_IPV6_SUBSCRIBER_PREFIX = 64


@lru_cache(maxsize=16)
def parse_networks(text: str) -> tuple[Network, ...]:
    """A comma list of addresses and CIDR networks.

    Raises:
        ValueError: Names the part that is neither.
    """
    return tuple(ip_network(part.strip(), strict=False) for part in text.split(",") if part.strip())


def client_address(
    peer: str | None, forwarded: Sequence[str], trusted: Sequence[Network]
) -> str | None:
    """The address of the client, as far as somebody we trust vouches for it.

    Each proxy appends the address it was called from, so only what trusted proxies appended is
    true: from the right, the first hop that is not a trusted proxy is the client. What stands
    left of it was written by that client.

    Args:
        peer: Who holds the socket.
        forwarded: Values of the X-Forwarded-For headers, in order.
        trusted: Networks of our own proxies.
    """
    nearest = _parse(peer or "")
    if nearest is None:
        return peer
    hops = [hop for value in forwarded for hop in value.split(",")]
    while hops and _within(nearest, trusted):
        hop = _parse(hops.pop())
        if hop is None:
            break
        nearest = hop
    return str(nearest)


def subscriber(address: str) -> str:
    """What to count attempts of a client by: the address, or its /64 in IPv6."""
    parsed = _parse(address)
    if isinstance(parsed, IPv6Address):
        return str(ip_network((parsed, _IPV6_SUBSCRIBER_PREFIX), strict=False))
    return address


def _within(address: Address, networks: Sequence[Network]) -> bool:
    return any(address in network for network in networks)


def _parse(text: str) -> Address | None:
    """An address as proxies write it: with or without a port, brackets or a zone."""
    text = text.strip()
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ip_address(text.partition("%")[0])
    except ValueError:
        return None
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address
