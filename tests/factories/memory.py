"""Skills, stores and states, written through the models."""

from itertools import count
from typing import Any

import orjson

from sinas.context import AppContext
from sinas.kit.json_types import JsonValue
from sinas.models import Skill, State, Store, User

_numbers = count(1)


async def make_skill(
    context: AppContext, owner: User, content: str = "Be brief.", **columns: Any
) -> Skill:
    """An active skill of `owner`."""
    async with context.unit() as unit:
        row = Skill(
            user_id=owner.id,
            namespace=columns.pop("namespace", "default"),
            name=columns.pop("name", None) or f"skill-{next(_numbers)}",
            description=columns.pop("description", "How to do it"),
            content=content,
            **columns,
        )
        unit.session.add(row)
    return row


async def make_store(context: AppContext, owner: User | None, **columns: Any) -> Store:
    """A store of `owner`."""
    async with context.unit() as unit:
        row = Store(
            user_id=None if owner is None else owner.id,
            namespace=columns.pop("namespace", "default"),
            name=columns.pop("name", None) or f"store-{next(_numbers)}",
            **columns,
        )
        unit.session.add(row)
    return row


async def make_state(
    context: AppContext,
    store: Store,
    owner: User,
    key: str,
    value: JsonValue = 1,
    *,
    encrypted: bool = False,
    **columns: Any,
) -> State:
    """A state of `owner`, its value encrypted as the platform does it if told."""
    async with context.unit() as unit:
        row = State(
            user_id=owner.id,
            store_id=store.id,
            key=key,
            value={} if encrypted else value,
            encrypted_value=context.cipher.encrypt(orjson.dumps(value).decode())
            if encrypted
            else None,
            encrypted=encrypted,
            **columns,
        )
        unit.session.add(row)
    return row
