"""The three OpenAPI documents and their Swagger pages, served without a CDN."""

from importlib.resources import files
from typing import Any

from fastapi import APIRouter, FastAPI, Request
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.responses import HTMLResponse
from starlette.staticfiles import StaticFiles

from sinas.web.problems import Problem

ASSETS_PATH = "/static/swagger"


def serve_assets(app: FastAPI) -> None:
    """Mount Swagger UI's own files, from the wheel that carries them."""
    folder = files("fastapi_swagger") / "resources"
    app.mount(ASSETS_PATH, StaticFiles(directory=str(folder)), name="swagger-assets")


def serve_docs(app: FastAPI) -> None:
    """Add `/docs` to an app: only its own operations, all of it from this server."""
    router = APIRouter(include_in_schema=False)

    @router.get("/docs")
    async def swagger(request: Request) -> HTMLResponse:
        """Interactive documentation of this API."""
        prefix = request.scope.get("root_path", "").rstrip("/")
        return get_swagger_ui_html(
            openapi_url=f"{prefix}/openapi.json",
            title=app.title,
            swagger_js_url=f"{ASSETS_PATH}/swagger-ui-bundle.js",
            swagger_css_url=f"{ASSETS_PATH}/swagger-ui.css",
            swagger_favicon_url=f"{ASSETS_PATH}/favicon-32x32.png",
        )

    app.include_router(router)


def describe_errors(app: FastAPI) -> None:
    """Put the schema that `PROBLEM_RESPONSES` point at into the app's OpenAPI document."""
    describe = app.openapi

    def with_problems() -> dict[str, Any]:
        document = describe()
        schemas = document.setdefault("components", {}).setdefault("schemas", {})
        if "Problem" not in schemas:
            schema = Problem.model_json_schema(ref_template="#/components/schemas/{model}")
            schemas.update(schema.pop("$defs"))
            schemas["Problem"] = schema
        return document

    app.openapi = with_problems  # type: ignore[method-assign]  # the documented way
