"""How a session begins: where the account is, and what the connector must leave alone."""

import ipaddress
from typing import Any, Final

from sinas.databases.base import DatabaseTarget, UnreachableError

_DOMAINS: Final = (".snowflakecomputing.com", ".snowflakecomputing.cn")
_KEY: Final = "-----BEGIN"
LOGIN_SECONDS: Final = 10
_LOGOUT_SECONDS: Final = 3
_MEMORY_MB: Final = 64


def login_of(target: DatabaseTarget) -> dict[str, Any]:
    """The connector's arguments: nothing is left to files or the environment of this process.

    Raises:
        UnreachableError: The host is not Snowflake's.
    """
    options = dict(target.options)
    login: dict[str, Any] = {
        **_place(target),
        **_secret(target),
        "user": target.username,
        "database": target.database,
        "schema": options.get("schema", "PUBLIC"),
        "application": "sinas",
        "paramstyle": "qmark",
        "login_timeout": LOGIN_SECONDS,
        "connect_timeout": LOGIN_SECONDS,
        "request_timeout": LOGIN_SECONDS,
        "retry_max_attempts": 3,
        "logout_error_strategy": "best_effort",
        "logout_total_timeout_seconds": _LOGOUT_SECONDS,
        "server_session_keep_alive": False,
        "enable_server_session_keep_alive_auto_detection": False,
        "client_session_keep_alive": False,
        "client_store_temporary_credential": False,
        "client_memory_limit": _MEMORY_MB,
        "client_prefetch_threads": 1,
        "crl_check_mode": "DISABLED",
        "use_proxy_env": False,
        "session_parameters": {
            "PYTHON_CONNECTOR_QUERY_RESULT_FORMAT": "JSON",
            "CLIENT_TELEMETRY_ENABLED": "false",
        },
    }
    if "warehouse" in options:
        login["warehouse"] = options["warehouse"]
    if "role" in options:
        # Or the user's other roles would allow what this one does not.
        login |= {"role": options["role"], "secondary_roles": "NONE"}
    return login


def _place(target: DatabaseTarget) -> dict[str, Any]:
    """Snowflake itself, by verified TLS; an emulator only on this machine.

    The connector sends a file of this machine to a server that answers with the request for one,
    and has no switch against it. So no other server is spoken to.
    """
    host = target.host.lower()
    place: dict[str, Any] = {"host": host, "port": target.port, "account": host.partition(".")[0]}
    if target.ssl_mode == "disable":
        if not _is_loopback(host):
            raise UnreachableError(
                f"'{target.name}' cannot be reached at {target.host}: ssl_mode 'disable' is for "
                "an emulator on this machine (127.0.0.1, ::1, localhost)."
            )
        return place | {"protocol": "http", "account": "localhost"}
    if not host.endswith(_DOMAINS):
        raise UnreachableError(
            f"'{target.name}' cannot be reached at {target.host}: the host of a Snowflake account "
            "is ACCOUNT.snowflakecomputing.com."
        )
    return place | {"protocol": "https", "verify_certificates": True, "verify_hostname": True}


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _secret(target: DatabaseTarget) -> dict[str, Any]:
    password = target.password or ""
    if password.lstrip().startswith(_KEY):
        return {"authenticator": "SNOWFLAKE_JWT", "private_key": password}
    return {"authenticator": "SNOWFLAKE", "password": password}
