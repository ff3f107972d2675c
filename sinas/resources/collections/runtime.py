"""Runtime operations of collections: which there are."""

from collections.abc import Sequence
from typing import Annotated

from fastapi import APIRouter, Depends

from sinas.crud.schema import LimitQuery, SkipQuery
from sinas.models import Collection
from sinas.resources.collections.schemas import CollectionRead
from sinas.resources.collections.service import CollectionService
from sinas.web.application import Application
from sinas.web.deps import CREDENTIALS, allowed
from sinas.web.problems import PROBLEM_RESPONSES

router = APIRouter(tags=["discovery"], responses=PROBLEM_RESPONSES, dependencies=CREDENTIALS)

Discovery = Annotated[CollectionService, Depends(allowed(CollectionService, "collections", "read"))]


@router.get("/collections", response_model=list[CollectionRead])
@router.get("/discovery/collections", response_model=list[CollectionRead])
async def discover_collections(
    collections: Discovery, _: Application, skip: SkipQuery = 0, limit: LimitQuery = 1000
) -> Sequence[Collection]:
    """List the collections you may read, by name."""
    return await collections.discover(skip=skip, limit=limit)
