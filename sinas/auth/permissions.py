"""The permission grammar: `<service>.<resource>[/<path>].<action>:<scope>`.

Pure and without I/O. The registry below names what Sinas itself checks; any other service
name is allowed in keys, so that custom applications can use the same roles.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from urllib.parse import quote

_SCOPES = frozenset({"own", "all", "*"})

MAX_KEY_LENGTH = 512
_FORM = (
    "'{key}' is no permission key; write <service>.<resource>[/<path>].<action>:<scope> with "
    "the scope own, all or *, for example sinas.agents/sales/*.read:own."
)


@dataclass(frozen=True, slots=True)
class Parsed:
    """A permission key, taken apart.

    Attributes:
        base: Segments before the path, service first: `("sinas", "agents")`.
        path: Segments of the path, empty when there is none: `("sales", "bot")`.
        action: The verb, or `*`.
        scope: `own`, `all` or `*`.
    """

    base: tuple[str, ...]
    path: tuple[str, ...]
    action: str
    scope: str


@lru_cache(maxsize=16_384)
def parse(key: str) -> Parsed | None:
    """Take a key apart, or None when it is malformed.

    The action begins after the last dot, also when that dot is inside the path's last segment:
    names with dots are not addressable, which is why resource names cannot contain them.
    """
    left, colon, scope = key.rpartition(":")
    if not colon or scope not in _SCOPES:
        return None
    resource, dot, action = left.rpartition(".")
    if not dot or not action or not resource:
        return None
    base, slash, path = resource.partition("/")
    return Parsed(tuple(base.split(".")), tuple(path.split("/")) if slash else (), action, scope)


def segment(name: str) -> str:
    """Any name as one segment of a path: what the grammar would split at is percent-encoded.

    Dots stay: the action begins after the last one of the key, and these are before it.
    """
    return quote(name, safe="@+")


def grammar_error(key: str) -> str | None:
    """What is wrong with a key somebody wants to store, as a sentence with the fix, or None.

    Stricter than `parse`: a key that can never grant anything is a typing error.
    """
    if len(key) > MAX_KEY_LENGTH:
        return f"A permission key has at most {MAX_KEY_LENGTH} characters."
    parsed = parse(key)
    if parsed is None or not key.isprintable():
        return _FORM.format(key=key)
    words = (*parsed.base, parsed.action)
    if not all(words) or any(c in "/:" or c.isspace() for word in words for c in word):
        return _FORM.format(key=key)
    # Names of agents have blanks and colons inside.
    if not all(name and name == name.strip() for name in parsed.path):
        return _FORM.format(key=key)
    return None


@lru_cache(maxsize=65_536)
def matches(pattern: str, wanted: str) -> bool:
    """Whether holding `pattern` grants `wanted`."""
    if pattern == wanted:
        return True
    held, asked = parse(pattern), parse(wanted)
    if held is None or asked is None:
        return False
    return (
        _scope_covers(held.scope, asked.scope)
        and held.action in (asked.action, "*")
        and _base_covers(held, asked.base)
        and _path_covers(held, asked.path)
    )


def _scope_covers(held: str, asked: str) -> bool:
    return held in ("all", "*") or asked == held


def _is_prefix_pattern(held: Parsed, asked_length: int) -> bool:
    return held.base[-1] == "*" or (held.action == "*" and len(held.base) < asked_length)


def _base_covers(held: Parsed, asked: tuple[str, ...]) -> bool:
    if len(held.base) > len(asked):
        return False
    if len(held.base) < len(asked) and not _is_prefix_pattern(held, len(asked)):
        return False
    return all(h in (a, "*") for h, a in zip(held.base, asked, strict=False))


def _path_covers(held: Parsed, asked: tuple[str, ...]) -> bool:
    if not held.path:
        return not asked or held.action == "*" or held.base[-1] == "*"
    if len(held.path) != len(asked):
        return False
    return all(h in (a, "*") for h, a in zip(held.path, asked, strict=True))


@dataclass(frozen=True, slots=True)
class PathGrant:
    """Which rows one held pattern opens: None stands for any namespace or name."""

    namespace: str | None
    name: str | None
    every_owner: bool


@dataclass(frozen=True, slots=True)
class PermissionSet:
    """What a role union or an API key grants. Keys whose value was false are left out."""

    keys: frozenset[str]

    @classmethod
    def of(cls, keys: Iterable[str]) -> "PermissionSet":
        """The set of the given keys."""
        return cls(frozenset(keys))

    def grants(self, wanted: str) -> bool:
        """Whether any held key grants `wanted`."""
        return wanted in self.keys or any(matches(key, wanted) for key in self.keys)

    def grants_anywhere(self, resource: str, action: str) -> bool:
        """Whether any held key grants `action` on some path of a resource, or without one."""
        held = (parse(key) for key in self.keys)
        return any(
            each is not None
            and each.action in (action, "*")
            and _base_covers(each, ("sinas", resource))
            for each in held
        )

    def path_grants(self, resource: str, action: str) -> tuple[PathGrant, ...]:
        """The rows of a namespaced resource on which `action` is granted.

        `resource` is the noun without its service: `agents`.
        """
        found = []
        for key in self.keys:
            held = parse(key)
            if held is None or held.action not in (action, "*"):
                continue
            if not _base_covers(held, ("sinas", resource)):
                continue
            every = held.scope in ("all", "*")
            if not held.path:
                if held.action == "*" or held.base[-1] == "*":
                    found.append(PathGrant(None, None, every))
            elif len(held.path) == 2:
                namespace, name = (None if part == "*" else part for part in held.path)
                found.append(PathGrant(namespace, name, every))
        return tuple(found)


@dataclass(frozen=True, slots=True, kw_only=True)
class ResourcePermissions:
    """One row of the permission reference."""

    resource: str
    description: str
    actions: tuple[str, ...]
    namespaced: bool = False
    admin_only: bool = False


_CRUD = ("create", "read", "update", "delete")


def _row(
    resource: str, description: str, *actions: str, path: bool = False, admin: bool = False
) -> ResourcePermissions:
    return ResourcePermissions(
        resource=resource,
        description=description,
        actions=actions,
        namespaced=path,
        admin_only=admin,
    )


REGISTRY: tuple[ResourcePermissions, ...] = (
    _row("agents", "AI agents and chats with them", *_CRUD, "chat", path=True),
    _row("api_keys", "API keys", "create", "read", "delete"),
    _row(
        "collections",
        "File collections",
        *_CRUD,
        "upload",
        "download",
        "list",
        "delete_files",
        path=True,
    ),
    _row("components", "Embeddable UI components", *_CRUD, path=True),
    _row("config", "Declarative configuration", "validate", "apply", "read", admin=True),
    _row("connectors", "HTTP connectors", *_CRUD, path=True),
    _row(
        "database_connections",
        "Database connections",
        *_CRUD,
        "schema",
        "schema_destroy",
        "data",
        admin=True,
    ),
    _row("budgets", "Limits of what models may cost", *_CRUD, admin=True),
    _row("database_triggers", "Change capture on tables", *_CRUD),
    _row("dependencies", "Approved Python packages", "install", "read", "delete", admin=True),
    _row("executions", "Runs of functions", "read", "update"),
    _row("functions", "Python functions", *_CRUD, "execute", "shared_pool", path=True),
    _row(
        "llm_providers",
        "LLM providers; `use` asks their models directly",
        *_CRUD,
        "use",
        admin=True,
    ),
    _row("logs", "Request logs", "read"),
    _row("manifests", "Application manifests", *_CRUD, path=True),
    _row(
        "packages",
        "Packages of resources",
        "create",
        "install",
        "read",
        "delete",
        "uninstall",
        admin=True,
    ),
    _row("queries", "Saved SQL queries", *_CRUD, "execute", path=True),
    _row("roles", "Roles", *_CRUD, "manage_members", "manage_permissions", admin=True),
    _row("schedules", "Schedules", *_CRUD),
    _row("secrets", "Secrets", *_CRUD),
    _row("skills", "Skills", *_CRUD, path=True),
    _row("states", "State entries by namespace: sinas.states/{namespace}", *_CRUD),
    _row("stores", "State stores", *_CRUD, "write_state", "read_state", path=True),
    _row("system", "Workers, queues and health", "read", "update", admin=True),
    _row("templates", "Templates", *_CRUD, "render", "send", path=True),
    _row("users", "Users", *_CRUD),
    _row("webhooks", "Webhooks", *_CRUD),
)

ADMIN_ROLE = "Admins"
USER_ROLE = "Users"
GUEST_ROLE = "GuestUsers"


def _paths(resource: str, *actions: str) -> list[str]:
    """Grants on every path, and for `create` the pathless form that some checks ask for."""
    keys = [f"sinas.{resource}/*/*.{action}" for action in actions]
    return keys + [f"sinas.{resource}.create:own" for action in actions if action == "create:own"]


def _own(resource: str, *actions: str) -> list[str]:
    return [f"sinas.{resource}.{action}:own" for action in actions]


_OWN_CRUD = tuple(f"{action}:own" for action in _CRUD)

DEFAULT_ROLES: dict[str, tuple[str, ...]] = {
    ADMIN_ROLE: ("sinas.*:all",),
    GUEST_ROLE: tuple(_own("users", "read", "update")),
    USER_ROLE: tuple(
        _paths("agents", "create:own", "read:all", "update:own", "delete:own", "chat:all")
        + _paths("functions", *_OWN_CRUD, "execute:own")
        + _paths("skills", *_OWN_CRUD)
        + _paths("manifests", "create:own", "read:all", "update:own", "delete:own")
        + _paths(
            "collections",
            *_OWN_CRUD,
            "upload:own",
            "download:own",
            "list:own",
            "delete_files:own",
        )
        + _paths("components", "read:own")
        + _paths("queries", "read:own")
        + _paths("stores", *_OWN_CRUD, "read_state:own", "write_state:own")
        + _paths("connectors", *_OWN_CRUD)
        + _paths("templates", *_OWN_CRUD, "render:own", "send:own")
        + _own("database_triggers", "read")
        + _own("secrets", *_CRUD)
        + _own("webhooks", *_CRUD)
        + _own("schedules", *_CRUD)
        + _own("executions", "read", "update")
        + _own("users", "read", "update")
        + _own("api_keys", "create", "read", "delete")
        + _own("logs", "read")
    ),
}
