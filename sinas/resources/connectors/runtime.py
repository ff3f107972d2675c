"""Where services send browsers back to."""

from html import escape
from typing import Annotated

from fastapi import APIRouter, Query, Request
from fastapi.responses import HTMLResponse

from sinas.resources.connectors.oauth import (
    BROWSER_COOKIE,
    CALLBACK_PATH,
    AuthorizationError,
    finish,
)
from sinas.web.deps import Context
from sinas.web.problems import PROBLEM_RESPONSES

router = APIRouter(tags=["connectors"], responses=PROBLEM_RESPONSES)

_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
_PAGE = (
    "<!doctype html><html lang=en><meta charset=utf-8><title>{title}</title>"
    "<h1>{title}</h1><p>{text}</p></html>"
)


@router.get(CALLBACK_PATH, response_class=HTMLResponse)
async def finish_authorization(
    request: Request,
    context: Context,
    state: Annotated[str, Query(max_length=256)] = "",
    code: Annotated[str | None, Query(max_length=8192)] = None,
    error: Annotated[str | None, Query(max_length=256)] = None,
) -> HTMLResponse:
    """Where a service sends the user's browser back to, once they decided. Answers a page."""
    browser = request.cookies.get(BROWSER_COOKIE)
    try:
        reference = await finish(context, state=state, code=code, error=error, browser=browser)
    except AuthorizationError as failure:
        return _page(400, "Not connected", failure.message)
    done = f"The connector '{reference}' may act for you now. You can close this window."
    return _page(200, "Connected", done)


def _page(status: int, title: str, text: str) -> HTMLResponse:
    page = _PAGE.format(title=escape(title), text=escape(text))
    return HTMLResponse(page, status, headers=_HEADERS)
