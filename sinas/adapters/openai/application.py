"""The OpenAI adapter as an application to mount."""

from typing import Any

from fastapi import FastAPI

from sinas.adapters.openai import errors
from sinas.adapters.openai.endpoints import DESCRIBED, router


def install(app: FastAPI) -> None:
    """Give `app` the adapter's operations, its errors and the schemas they refer to."""
    errors.install(app)
    app.include_router(router)
    describe = app.openapi

    def with_schemas() -> dict[str, Any]:
        document = describe()
        schemas = document.setdefault("components", {}).setdefault("schemas", {})
        for model in DESCRIBED:
            schema = model.model_json_schema(ref_template="#/components/schemas/{model}")
            for name, inner in schema.pop("$defs", {}).items():
                schemas.setdefault(name, inner)
            schemas.setdefault(model.__name__, schema)
        return document

    app.openapi = with_schemas  # type: ignore[method-assign]  # the documented way
