"""Who a request comes from, for rate limits and logs."""

from fastapi import Request

from sinas.context import AppContext
from sinas.kit import addresses


def client_address(request: Request, context: AppContext) -> str:
    """The client's address; X-Forwarded-For counts only from TRUSTED_PROXIES.

    A connection without an address (a Unix socket) is called `local`.
    """
    found = addresses.client_address(
        request.client.host if request.client else None,
        request.headers.getlist("x-forwarded-for"),
        addresses.parse_networks(context.settings.auth.trusted_proxies),
    )
    return found or "local"
