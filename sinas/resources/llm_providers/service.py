"""Rules of LLM providers: admins manage them, one is the default, keys only go in."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from pydantic import SecretStr
from sqlalchemy import func, select, update
from sqlalchemy.exc import IntegrityError

from sinas.auth.principal import Principal
from sinas.crud.service import duplicate
from sinas.db.unit import Unit
from sinas.errors import NotFoundError
from sinas.kit.crypto import Cipher
from sinas.models import LlmProvider
from sinas.resources.llm_providers.schemas import LlmProviderCreate, LlmProviderUpdate

# Names what is locked, for all processes; the value has no other meaning.
_DEFAULT_LOCK = 7_202_611_222


class LlmProviderService:
    """For callers whose permission was checked: providers have no owners and no paths."""

    def __init__(self, unit: Unit, principal: Principal, cipher: Cipher) -> None:
        self.session = unit.session
        self.principal = principal
        self.cipher = cipher

    async def page(self, *, skip: int, limit: int) -> Sequence[LlmProvider]:
        """Providers that were not deleted, by name."""
        statement = (
            select(LlmProvider)
            .where(LlmProvider.deleted_at.is_(None))
            .order_by(LlmProvider.name)
            .offset(skip)
            .limit(limit)
        )
        return (await self.session.scalars(statement)).all()

    async def by_name(self, name: str) -> LlmProvider:
        """One provider.

        Raises:
            NotFoundError: No provider of that name.
        """
        return self._found(
            await self.session.scalar(
                select(LlmProvider).where(
                    LlmProvider.name == name, LlmProvider.deleted_at.is_(None)
                )
            ),
            name,
        )

    async def create(self, data: LlmProviderCreate) -> LlmProvider:
        """A new provider; as the default it takes that mark from the others.

        Raises:
            DuplicateError: The name is taken.
        """
        values = self._values(data.model_dump())
        if values.get("is_default"):
            await self._clear_default()
        row = LlmProvider(**values)
        self.session.add(row)
        await self._flush(data.name)
        return row

    async def update(self, provider_id: UUID, data: LlmProviderUpdate) -> LlmProvider:
        """Change what `data` carries.

        Raises:
            NotFoundError: No such provider.
            DuplicateError: The new name is taken.
        """
        row = await self._by_id(provider_id)
        values = self._values(data.model_dump(include=data.model_fields_set))
        if values.get("is_default"):
            await self._clear_default()
        for key, value in values.items():
            setattr(row, key, value)
        await self._flush(row.name)
        await self.session.refresh(row)
        return row

    async def delete(self, provider_id: UUID) -> None:
        """Forget the provider and its key; agents that name it say so when they are used.

        Raises:
            NotFoundError: No such provider.
        """
        row = await self._by_id(provider_id)
        row.deleted_at = func.now()
        row.is_active = False
        row.is_default = False
        row.api_key_encrypted = None

    def _values(self, values: dict[str, Any]) -> dict[str, Any]:
        if "api_key" in values:
            key: SecretStr | None = values.pop("api_key")
            if key is not None:
                plain = key.get_secret_value()
                values["api_key_encrypted"] = self.cipher.encrypt(plain) if plain else None
        columns = LlmProvider.__table__.columns
        return {k: v for k, v in values.items() if v is not None or columns[k].nullable}

    async def _by_id(self, provider_id: UUID) -> LlmProvider:
        row = await self.session.get(LlmProvider, provider_id, with_for_update=True)
        if row is not None and row.deleted_at is not None:
            row = None
        return self._found(row, str(provider_id))

    def _found(self, row: LlmProvider | None, name: str) -> LlmProvider:
        if row is None:
            raise NotFoundError(f"LLM provider '{name}' not found")
        return row

    async def _clear_default(self) -> None:
        # Callers one after the other, until they commit: only one row may carry the mark.
        await self.session.execute(select(func.pg_advisory_xact_lock(_DEFAULT_LOCK)))
        await self.session.execute(
            update(LlmProvider).where(LlmProvider.is_default).values(is_default=False)
        )

    async def _flush(self, name: str) -> None:
        try:
            await self.session.flush()
        except IntegrityError as error:
            raise duplicate(error, f"LLM provider '{name}'") from error
