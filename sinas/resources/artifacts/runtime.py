"""Runtime operations of artifacts."""

from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import Annotated, Any
from urllib.parse import quote
from uuid import UUID

from fastapi import APIRouter, Depends, Response

from sinas.crud.schema import LimitQuery, SkipQuery
from sinas.models import Artifact
from sinas.resources.artifacts.schemas import ArtifactRead
from sinas.resources.artifacts.service import ArtifactService
from sinas.web.deps import CREDENTIALS, authenticated
from sinas.web.problems import PROBLEM_RESPONSES

router = APIRouter(
    prefix="/chats/{chat_id}/artifacts",
    tags=["chats"],
    responses=PROBLEM_RESPONSES,
    dependencies=CREDENTIALS,
)

Artifacts = Annotated[ArtifactService, Depends(authenticated(ArtifactService))]
_BYTES = {"schema": {"type": "string", "format": "binary"}}
_FILE: dict[int | str, dict[str, Any]] = {
    200: {"description": "The file.", "content": {"application/octet-stream": _BYTES}}
}


@router.get("", response_model=list[ArtifactRead])
async def list_artifacts(
    chat_id: UUID, artifacts: Artifacts, skip: SkipQuery = 0, limit: LimitQuery = 100
) -> Sequence[Artifact]:
    """List the files that code wrote for a chat, newest first."""
    return await artifacts.page(chat_id, skip=skip, limit=limit)


@router.get("/{artifact_id}", response_class=Response, responses=_FILE)
async def get_artifact(chat_id: UUID, artifact_id: UUID, artifacts: Artifacts) -> Response:
    """Get one file."""
    return _download(await artifacts.get(chat_id, artifact_id))


def _download(artifact: Artifact) -> Response:
    """The file as nothing a browser would run: a model, or a stranger's data, may have made it."""
    name = quote(PurePosixPath(artifact.name).name, safe="")
    return Response(
        artifact.content,
        media_type=artifact.media_type,
        headers={
            "Content-Disposition": f"attachment; filename*=UTF-8''{name}",
            "Content-Security-Policy": "sandbox; default-src 'none'",
            "X-Content-Type-Options": "nosniff",
            "Cache-Control": "private, max-age=86400, immutable",
        },
    )
