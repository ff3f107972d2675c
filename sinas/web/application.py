"""The application a discovery list is asked for: `?app=` or `X-Application`, `namespace/name`."""

from typing import Annotated

from fastapi import Depends, Header

from sinas.errors import BadRequestError, FieldError, NotFoundError


async def _application(
    app: str | None = None, x_application: Annotated[str | None, Header()] = None
) -> None:
    """Accept only requests for no application: no manifest exists that could expose one.

    Raises:
        BadRequestError: Not of the form `namespace/name`.
        NotFoundError: No such manifest.
    """
    wanted = app or x_application
    if wanted is None:
        return
    namespace, _, name = wanted.partition("/")
    if not namespace or not name:
        message = "must be 'namespace/name'"
        raise BadRequestError(f"app {message}", [FieldError("app", message)])
    raise NotFoundError(f"Application '{wanted}' not found")


Application = Annotated[None, Depends(_application)]
