"""Management operations of templates."""

from collections.abc import Sequence
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends

from sinas.auth.principal import Principal
from sinas.crud.schema import LimitQuery, SkipQuery
from sinas.models import Template
from sinas.resources.templates.schemas import (
    TemplateCreate,
    TemplateRead,
    TemplateRenderRequest,
    TemplateRenderResponse,
    TemplateUpdate,
)
from sinas.resources.templates.service import TemplateService
from sinas.resources.templates.use import TemplateUse
from sinas.web.deps import CREDENTIALS, Context, allowed, permitted
from sinas.web.problems import PROBLEM_RESPONSES

router = APIRouter(
    prefix="/templates", tags=["templates"], responses=PROBLEM_RESPONSES, dependencies=CREDENTIALS
)

Create = Annotated[TemplateService, Depends(allowed(TemplateService, "templates", "create"))]
Read = Annotated[TemplateService, Depends(allowed(TemplateService, "templates", "read"))]
Update = Annotated[TemplateService, Depends(allowed(TemplateService, "templates", "update"))]
Delete = Annotated[TemplateService, Depends(allowed(TemplateService, "templates", "delete"))]
Renderer = Annotated[Principal, Depends(permitted("templates", "render"))]


@router.post("", status_code=201, response_model=TemplateRead)
async def create_template(data: TemplateCreate, templates: Create) -> Template:
    """Create a template, owned by the caller."""
    return await templates.create(data)


@router.get("", response_model=list[TemplateRead])
async def list_templates(
    templates: Read, namespace: str | None = None, skip: SkipQuery = 0, limit: LimitQuery = 1000
) -> Sequence[Template]:
    """List the templates the caller may read, newest first, inactive ones included."""
    return await templates.listed(namespace, skip=skip, limit=limit)


@router.get("/by-name/{namespace}/{name}", response_model=TemplateRead)
async def get_template_by_name(namespace: str, name: str, templates: Read) -> Template:
    """Get one template by its name."""
    return await templates.get(namespace, name)


@router.get("/{template_id}", response_model=TemplateRead)
async def get_template(template_id: UUID, templates: Read) -> Template:
    """Get one template."""
    return await templates.by_id(template_id)


@router.patch("/{template_id}", response_model=TemplateRead)
async def update_template(template_id: UUID, data: TemplateUpdate, templates: Update) -> Template:
    """Change a template; fields left out stay as they are."""
    return await templates.update_by_id(template_id, data)


@router.delete("/{template_id}", status_code=204)
async def delete_template(template_id: UUID, templates: Delete) -> None:
    """Delete a template. The one of login codes comes back as it was when the server starts."""
    await templates.delete_by_id(template_id)


@router.post("/{template_id}/render")
async def preview_template(
    template_id: UUID, body: TemplateRenderRequest, principal: Renderer, context: Context
) -> TemplateRenderResponse:
    """See what a template makes of variables, also while it is inactive."""
    return await TemplateUse(context, principal).render(template_id, body, inactive=True)
