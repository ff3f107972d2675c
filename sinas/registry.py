"""Everything that is in the system, in one list."""

from sinas.resources.api_keys.resource import RESOURCE as API_KEYS
from sinas.resources.auth.resource import RESOURCE as AUTH
from sinas.resources.base import Resource
from sinas.resources.roles.resource import RESOURCE as ROLES
from sinas.resources.users.resource import RESOURCE as USERS

RESOURCES: tuple[Resource, ...] = (
    API_KEYS,
    AUTH,
    ROLES,
    USERS,
)
