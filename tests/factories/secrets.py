"""Secrets."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sinas.models import Secret, SecretVisibility

if TYPE_CHECKING:
    from sinas.context import AppContext
    from sinas.models import User


async def make_secret(
    context: AppContext,
    user: User,
    value: str,
    *,
    name: str = "API_KEY",
    visibility: SecretVisibility = SecretVisibility.PRIVATE,
    description: str | None = None,
) -> Secret:
    """A stored secret, encrypted as the platform does it."""
    secret = Secret(
        user_id=user.id,
        name=name,
        visibility=visibility,
        value_encrypted=context.cipher.encrypt(value),
        description=description,
    )
    async with context.unit() as unit:
        unit.session.add(secret)
    return secret
