"""Runtime operations of templates: find, fill in, send. By name and by id, all the same."""

from collections.abc import Sequence
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends

from sinas.auth.principal import Principal
from sinas.crud.schema import LimitQuery, SkipQuery
from sinas.models import Template
from sinas.resources.templates.schemas import (
    TemplateEmailRequest,
    TemplateEmailResponse,
    TemplateRead,
    TemplateRenderRequest,
    TemplateRenderResponse,
)
from sinas.resources.templates.service import TemplateService
from sinas.resources.templates.use import TemplateUse
from sinas.web.application import Application
from sinas.web.deps import CREDENTIALS, Context, allowed, permitted
from sinas.web.problems import PROBLEM_RESPONSES

router = APIRouter(responses=PROBLEM_RESPONSES, dependencies=CREDENTIALS)

Read = Annotated[TemplateService, Depends(allowed(TemplateService, "templates", "read"))]
Renderer = Annotated[Principal, Depends(permitted("templates", "render"))]
Sender = Annotated[Principal, Depends(permitted("templates", "send"))]


@router.get("/templates", response_model=list[TemplateRead], tags=["discovery"])
@router.get("/discovery/templates", response_model=list[TemplateRead], tags=["discovery"])
async def discover_templates(
    templates: Read, _: Application, skip: SkipQuery = 0, limit: LimitQuery = 1000
) -> Sequence[Template]:
    """List the active templates you may read, by name."""
    return await templates.discover(skip=skip, limit=limit)


@router.post("/templates/{namespace}/{name}/render", tags=["templates"])
async def render_template(
    namespace: str, name: str, body: TemplateRenderRequest, principal: Renderer, context: Context
) -> TemplateRenderResponse:
    """Fill a template in. Every variable it uses has to be given."""
    return await TemplateUse(context, principal).render((namespace, name), body)


@router.post("/templates/{template_id}/render", tags=["templates"])
async def render_template_by_id(
    template_id: UUID, body: TemplateRenderRequest, principal: Renderer, context: Context
) -> TemplateRenderResponse:
    """Fill a template in, found by its id."""
    return await TemplateUse(context, principal).render(template_id, body)


@router.post("/templates/{namespace}/{name}/email", tags=["templates"])
async def email_template(
    namespace: str, name: str, body: TemplateEmailRequest, principal: Sender, context: Context
) -> TemplateEmailResponse:
    """Fill a template in and mail it to one person.

    An answer of 200 says that the mail server took the mail; whether it arrives is between the
    servers. Mails count per user: `RATE_LIMIT_EMAIL_MAX` in a window.
    """
    return await TemplateUse(context, principal).send((namespace, name), body)


@router.post("/templates/{template_id}/send", tags=["templates"])
async def send_template(
    template_id: UUID, body: TemplateEmailRequest, principal: Sender, context: Context
) -> TemplateEmailResponse:
    """Fill a template in, found by its id, and mail it to one person."""
    return await TemplateUse(context, principal).send(template_id, body)
