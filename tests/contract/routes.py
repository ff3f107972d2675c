"""Every operation of the platform, and what the operations do not say themselves."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from fastapi import FastAPI
from starlette.routing import Mount

# Open to everybody, each for a reason; all are in the runtime API.
PUBLIC_ROUTES: dict[tuple[str, str], str] = {
    ("GET", "/health"): "load balancers have no credentials; it tells nothing about the data",
    ("GET", "/connectors/oauth/callback"): "a browser comes back without credentials; `state` says",
    ("POST", "/auth/login"): "the way to credentials",
    ("POST", "/auth/verify-otp"): "the way to credentials",
    ("POST", "/auth/external-auth"): "the way to credentials",
    ("POST", "/auth/refresh"): "the refresh token in its body is the credential",
    ("POST", "/auth/logout"): "the refresh token in its body is the credential",
    ("GET", "/files/serve/{token}"): "the token in its path is the credential",
    ("GET", "/files/public/{namespace}/{collection}/{filename}"): "for collections that say so",
    **{
        (method, "/webhooks/{path}"): "each webhook says whether its callers sign in"
        for method in ("GET", "POST", "PUT", "PATCH", "DELETE")
    },
}


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation of one of the three OpenAPI documents."""

    mount: str
    method: str
    path: str
    spec: dict[str, Any]

    @property
    def name(self) -> str:
        return f"{self.method} {self.mount}{self.path}"

    @property
    def is_public(self) -> bool:
        return not self.mount and (self.method, self.path) in PUBLIC_ROUTES


def applications(app: FastAPI) -> dict[str, FastAPI]:
    """The three applications by where they are mounted, the runtime's at ''."""
    mounted = {
        route.path: route.app
        for route in app.routes
        if isinstance(route, Mount) and isinstance(route.app, FastAPI)
    }
    return {"": app, **mounted}


def operations(app: FastAPI) -> Iterator[Operation]:
    """All operations, from the documents that clients read."""
    for mount, each in applications(app).items():
        for path, methods in each.openapi()["paths"].items():
            for method, spec in methods.items():
                yield Operation(mount, method.upper(), path, spec)
