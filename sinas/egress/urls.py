"""URLs that requests may be made to, as far as their text says."""

import httpx

from sinas.errors import UpstreamError

MAX_URL_CHARS = 16_384


class EgressUrlError(UpstreamError):
    """A text that is no URL a request can be made to."""


def parse_url(text: str) -> httpx.URL:
    """The URL, without its fragment.

    Raises:
        EgressUrlError: It is none, is not `http` or `https`, names no host or no port that
            exists, or has a user name or password in it, which would end up in logs. The
            message does not repeat it.
    """
    if len(text) > MAX_URL_CHARS:
        raise EgressUrlError(f"The URL has more than {MAX_URL_CHARS} characters.")
    try:
        url = httpx.URL(text)
        # Both are computed when they are asked for, and a host may be no host then.
        named = bool(url.host and url.raw_host)
    except (httpx.InvalidURL, UnicodeError, ValueError):
        url, named = httpx.URL(), False
    if url.scheme not in ("http", "https") or not named or not usable_port(url):
        raise EgressUrlError(
            "The URL cannot be used; it must start with http:// or https:// and name a host."
        )
    if url.userinfo:
        raise EgressUrlError("The URL must not contain a user name or a password.")
    return url.copy_with(fragment=None)


def usable_port(url: httpx.URL) -> bool:
    """Whether the URL names no port, or one that exists."""
    return url.port is None or 0 < url.port < 65_536
