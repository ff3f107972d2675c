"""Principal: who calls, and what they may do right now."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Literal
from uuid import UUID

from sinas.auth.permissions import PathGrant, PermissionSet
from sinas.errors import ForbiddenError

Credential = Literal["token", "api_key", "system"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Principal:
    """A caller. Every service takes one; workers rebuild it from the rows they act for.

    Attributes:
        grants: Union of the user's active roles, read when the request came in.
        limit: An API key's own map; the caller may do what both allow. None for no limit.
        execution_id: Set when the caller is user code of that execution, or acts for it.
        depth: How many executions the chain behind the caller has; 0 for none.
    """

    user_id: UUID
    email: str
    roles: tuple[str, ...]
    grants: PermissionSet
    credential: Credential
    limit: PermissionSet | None = None
    last_login_at: datetime | None = None
    created_at: datetime | None = None
    execution_id: UUID | None = None
    depth: int = 0

    def can(self, wanted: str) -> bool:
        """Whether the caller holds `wanted`, a full permission key."""
        if not self.grants.grants(wanted):
            return False
        return self.limit is None or self.limit.grants(wanted)

    def can_one_of(self, *wanted: str) -> bool:
        """Whether the caller holds one of several keys that say the same.

        Their roles may grant one of them and their API key another.
        """
        maps = [self.grants] if self.limit is None else [self.grants, self.limit]
        return all(any(held.grants(key) for key in wanted) for held in maps)

    def require(self, wanted: str) -> None:
        """Raise unless the caller holds `wanted`.

        Raises:
            ForbiddenError: Names the missing permission.
        """
        if not self.can(wanted):
            raise ForbiddenError(f"Not authorized: this needs the permission '{wanted}'.")

    def can_on(self, resource: str, namespace: str, name: str, action: str, *, own: bool) -> bool:
        """Whether the caller may do `action` on one row of a namespaced resource.

        `own` says whether the caller owns the row: an `:own` grant then suffices.
        """
        scope = "own" if own else "all"
        return self.can(f"sinas.{resource}/{namespace}/{name}.{action}:{scope}")

    def can_create(self, resource: str, namespace: str, name: str) -> bool:
        """Whether the caller may create a row of that name: path and pathless grants count."""
        return any(
            self.can(f"sinas.{resource}{path}.create:own")
            for path in ("", f"/{namespace}/{name}", f"/{namespace}/*")
        )

    def path_grants(self, resource: str, action: str) -> tuple[tuple[PathGrant, ...], ...]:
        """Alternatives of rows `action` is granted on; a row must pass every group."""
        groups = [self.grants.path_grants(resource, action)]
        if self.limit is not None:
            groups.append(self.limit.path_grants(resource, action))
        return tuple(groups)

    def can_somewhere(self, resource: str, action: str) -> bool:
        """Whether there could be a row the caller may do `action` on."""
        return all(self.path_grants(resource, action))

    def can_anywhere(self, resource: str, action: str) -> bool:
        """Whether `action` is granted on some path of a resource, whatever its form."""
        return self.grants.grants_anywhere(resource, action) and (
            self.limit is None or self.limit.grants_anywhere(resource, action)
        )

    @property
    def limit_map(self) -> dict[str, bool] | None:
        """The limit as it is stored with work that will act for this caller later."""
        return None if self.limit is None else dict.fromkeys(sorted(self.limit.keys), True)


def permission_set(values: Mapping[str, bool]) -> PermissionSet:
    """The keys whose value is true."""
    return PermissionSet.of(key for key, value in values.items() if value)


def system_principal(user_id: UUID, email: str) -> Principal:
    """A caller who may do everything, for the operator's own commands.

    `user_id` is who owns what is created; it must exist.
    """
    return Principal(
        user_id=user_id,
        email=email,
        roles=(),
        grants=PermissionSet.of(("sinas.*:all",)),
        credential="system",
    )
