"""Models that callers ask without an agent: which there are, and who may use which."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Text, bindparam, func, or_, select
from sqlalchemy.dialects.postgresql import JSONB

from sinas.auth.permissions import segment
from sinas.auth.principal import Principal
from sinas.db.direct import Statement
from sinas.db.unit import Unit
from sinas.errors import BadRequestError, FieldError
from sinas.kit.crypto import Cipher
from sinas.kit.json_types import JsonObject
from sinas.llm.base import Provider
from sinas.llm.convert import dialect_of
from sinas.models import LlmProvider

_row = func.jsonb_build_object(
    *("name", LlmProvider.name, "type", LlmProvider.provider_type),
    *("endpoint", LlmProvider.api_endpoint, "key", LlmProvider.api_key_encrypted),
    *("default", LlmProvider.default_model, "models", LlmProvider.config["models"]),
    *("prices", LlmProvider.config["prices"]),
    *("created_at", LlmProvider.created_at),
)
# In one row: what runs statements without a transaction of their own answers with the first.
_active = select(func.jsonb_agg(_row, type_=JSONB).label("providers")).where(
    LlmProvider.is_active, LlmProvider.deleted_at.is_(None)
)
_name: Any = bindparam("name", type_=Text())
_ALL: Final = Statement(_active)
_OFFERING: Final = Statement(
    _active.where(
        or_(
            func.starts_with(_name, LlmProvider.name + "/"),
            LlmProvider.default_model == _name,
            func.jsonb_exists(LlmProvider.config["models"], _name),
        )
    )
)
ANY_MODEL: Final = "sinas.llm_providers.use:all"


def use_permission(provider: str, model: str) -> str:
    """The key that lets its holder ask one model of one provider."""
    return f"sinas.llm_providers/{segment(provider)}/{segment(model)}.use:all"


@dataclass(frozen=True, slots=True)
class DirectModel:
    """A model that a provider offers: its default model, or one of its `config.models`."""

    provider: str
    model: str
    created_at: datetime

    @property
    def name(self) -> str:
        """How callers name it."""
        return f"{self.provider}/{self.model}"


@dataclass(frozen=True, slots=True)
class Offer:
    """A model and where to ask for it; `config` is the provider's, with its prices."""

    listed: DirectModel
    provider: Provider
    config: JsonObject

    @property
    def model(self) -> str:
        """The provider's own name of it."""
        return self.listed.model


class DirectModelService:
    """Models of active providers, as far as one caller may use them."""

    def __init__(self, unit: Unit, principal: Principal, cipher: Cipher) -> None:
        self.unit = unit
        self.principal = principal
        self.cipher = cipher

    def may_use(self, provider: str, model: str) -> bool:
        """Whether the caller may ask this model, if there is one of that name."""
        return self.principal.can_one_of(use_permission(provider, model), ANY_MODEL)

    @property
    def may_use_some(self) -> bool:
        """Whether there could be a model the caller may ask."""
        return self.principal.can_anywhere("llm_providers", "use")

    async def listing(self) -> list[DirectModel]:
        """The models the caller may ask, by name."""
        if not self.may_use_some:
            return []
        found = [
            _listed(row, model)
            for row in await self._rows(_ALL, {})
            for model in _offered(row)
            if self.may_use(row["name"], model)
        ]
        return sorted(found, key=lambda each: each.name)

    async def find(self, name: str) -> Offer | None:
        """The model named `provider/model`, or by a name that only one provider offers.

        None when there is none that the caller may ask: the two cases look the same.

        Raises:
            BadRequestError: Several providers offer it.
        """
        if not self.may_use_some:
            return None
        rows = await self._rows(_OFFERING, {"name": name})
        # The longest name first: provider `a/b` before provider `a` with a model `b/…`.
        for row in sorted(rows, key=lambda each: -len(each["name"])):
            model = name.removeprefix(f"{row['name']}/")
            if model != name and model in _offered(row) and self.may_use(row["name"], model):
                return self._offer(row, model)
        bare = [r for r in rows if name in _offered(r) and self.may_use(r["name"], name)]
        if len(bare) > 1:
            names = ", ".join(sorted(f"'{row['name']}/{name}'" for row in bare))
            message = f"Several providers offer '{name}'; ask for one of {names}"
            raise BadRequestError(f"model: {message}.", [FieldError("model", message)])
        return self._offer(bare[0], name) if bare else None

    async def _rows(self, statement: Statement, values: dict[str, str]) -> Sequence[dict[str, Any]]:
        row = await self.unit.one(statement, values)
        return (row["providers"] if row else None) or ()

    def _offer(self, row: dict[str, Any], model: str) -> Offer:
        key = row["key"]
        provider = Provider(
            name=row["name"],
            type=dialect_of(row["type"], model),
            endpoint=row["endpoint"],
            api_key=self.cipher.decrypt(key) if key else None,
        )
        return Offer(_listed(row, model), provider, {"prices": row["prices"]})


def _listed(row: dict[str, Any], model: str) -> DirectModel:
    return DirectModel(row["name"], model, datetime.fromisoformat(row["created_at"]))


def _offered(row: dict[str, Any]) -> list[str]:
    """Names in order, each once. `config` is free JSON: what is no list of texts is ignored."""
    listed = row["models"] if isinstance(row["models"], list) else []
    names = [row["default"], *listed]
    return list(dict.fromkeys(name for name in names if isinstance(name, str) and name))
