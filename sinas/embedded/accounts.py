"""The operator's commands about users and keys: the same services as behind the API.

Who can read the database's address and keys is the operator; their commands act as the
superadmin, or as the user they name.
"""

import asyncio
from uuid import UUID

from pydantic import ValidationError

from sinas.auth.principal import Principal
from sinas.auth.superadmin import superadmin_email
from sinas.context import AppContext, open_context
from sinas.errors import InvalidInputError, NotFoundError, UnauthenticatedError
from sinas.resources.api_keys.schemas import ApiKeyCreate
from sinas.resources.api_keys.service import ApiKeyService
from sinas.resources.users.schemas import UserCreate
from sinas.resources.users.service import UserService
from sinas.settings import load_settings


async def create_api_key(email: str, name: str) -> str:
    """A new key of that user, which may do all the user may.

    Raises:
        NotFoundError: No active user has the address.
        InvalidInputError: The name is empty or too long.
    """
    async with open_context(load_settings()) as context:
        owner = await _user(context, email)
        try:
            data = ApiKeyCreate(name=name)
        except ValidationError as error:
            raise _refused("--name", error) from error
        async with context.unit() as unit:
            created = await ApiKeyService(unit, owner).create(data)
        return created.key


async def create_user(email: str) -> str:
    """A new guest; returns their id.

    Raises:
        InvalidInputError: No e-mail address.
        ConflictError: The address is taken.
    """
    async with open_context(load_settings()) as context:
        superadmin = superadmin_email(context.settings)
        operator = await _user(context, superadmin)
        try:
            data = UserCreate(email=email)
        except ValidationError as error:
            raise _refused("--email", error) from error
        async with context.unit() as unit:
            user = await UserService(unit, operator, superadmin).create(data)
            return str(user.id)


def find_user(email: str) -> UUID:
    """Id of the active user with that address. Blocks.

    Raises:
        NotFoundError: There is none.
    """

    async def find() -> UUID:
        async with open_context(load_settings()) as context:
            return (await _user(context, email)).user_id

    return asyncio.run(find())


async def _user(context: AppContext, email: str) -> Principal:
    try:
        return await context.authenticator.by_email(email)
    except UnauthenticatedError as error:
        raise NotFoundError(
            f"No active user has the address {email}; make one with "
            f"`sinas users create --email {email}`."
        ) from error


def _refused(option: str, error: ValidationError) -> InvalidInputError:
    return InvalidInputError(f"{option}: {error.errors()[0]['msg'].rstrip('.')}.")
