"""The offline provider a new installation starts with."""

from sqlalchemy import select

from sinas.db.unit import Unit
from sinas.models import LlmProvider

LOCAL_PROVIDER = "local"
LOCAL_MODEL = "smollm2-135m-instruct"


async def seed_local_provider(unit: Unit, url: str) -> None:
    """Make provider `local` point at the offline model's server, if that runs.

    It becomes the default only where there is no default yet. Its endpoint follows the
    server's port; everything else is the operator's once it exists.
    """
    if not url:
        return
    session = unit.session
    found = await session.scalar(select(LlmProvider).where(LlmProvider.name == LOCAL_PROVIDER))
    if found is not None:
        found.api_endpoint = url
        return
    default = await session.scalar(
        select(LlmProvider.id).where(LlmProvider.is_default, LlmProvider.deleted_at.is_(None))
    )
    session.add(
        LlmProvider(
            name=LOCAL_PROVIDER,
            provider_type="openai",
            api_endpoint=url,
            default_model=LOCAL_MODEL,
            config={"models": [LOCAL_MODEL]},
            is_default=default is None,
        )
    )
