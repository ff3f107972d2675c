"""Where an answer sends a request on to, and what of the request may go there. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final

import httpx

from sinas.egress.urls import EgressUrlError, parse_url

_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
_KEEPING_METHOD: Final = frozenset({307, 308})
_SAFE: Final = frozenset({"GET", "HEAD"})
# All that a stranger gets: what else a request has may be a credential, whatever it is called.
_HARMLESS: Final = frozenset({"accept", "accept-language", "accept-encoding", "user-agent"})
_PORTS: Final = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True, kw_only=True)
class Sending:
    """One request. Names of headers are as the caller wrote them."""

    method: str
    url: httpx.URL
    headers: Mapping[str, str] = field(repr=False)
    content: bytes | None = field(repr=False)


def followed(sent: Sending, status: int, location: str | None) -> Sending | None:
    """The request that a redirect asks for; None where the redirect is the answer.

    Another origin gets neither credentials nor a body. What would change something there is not
    sent at all, and nothing goes from https to http.
    """
    if status not in _REDIRECTS or not location:
        return None
    try:
        url = parse_url(str(sent.url.join(location)))
    except (EgressUrlError, httpx.InvalidURL):
        return None
    if sent.url.scheme == "https" and url.scheme != "https":
        return None
    moved = replace(sent, url=url)
    if status not in _KEEPING_METHOD and sent.method not in _SAFE:
        moved = replace(moved, method="GET", content=None, headers=_without_content(sent.headers))
    if _is_same_origin(sent.url, url):
        return moved
    if moved.method not in _SAFE:
        return None
    kept = {name: text for name, text in moved.headers.items() if name.lower() in _HARMLESS}
    return replace(moved, headers=kept, content=None)


def _without_content(headers: Mapping[str, str]) -> dict[str, str]:
    return {n: text for n, text in headers.items() if not n.lower().startswith("content-")}


def _is_same_origin(one: httpx.URL, other: httpx.URL) -> bool:
    if one.raw_host.lower() != other.raw_host.lower():
        return False
    if one.scheme == other.scheme:
        return _port(one) == _port(other)
    # The usual step up to https; the other direction was refused before.
    return (_port(one), _port(other)) == (80, 443)


def _port(url: httpx.URL) -> int:
    return url.port or _PORTS[url.scheme]
