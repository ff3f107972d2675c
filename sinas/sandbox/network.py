"""The bridge network of sandbox containers. Several processes may ask for it at once."""

import fcntl
from pathlib import Path
from typing import Any

import docker
from docker.errors import APIError, NotFound

_OPTIONS = {"com.docker.network.bridge.enable_icc": "false"}


def ensure_network(
    client: "docker.DockerClient", name: str, instance_id: str, lock_file: Path
) -> str:
    """The id of the one network called `name`, creating it where it is missing. Blocks.

    Engines before 25 accept two networks of one name, after which the name is refused as
    ambiguous. So creators queue on a file lock, those on another machine's file settle on the
    oldest, and containers are attached by id. A network of that name an operator made is used
    as it is.

    Raises:
        APIError: The engine refuses.
    """
    with lock_file.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        found = _find(client, name)
        if not found:
            _create(client, name, instance_id)
            found = _find(client, name)
        for surplus in found[1:]:
            _remove(client, surplus)
    return str(found[0]["Id"])


def _create(client: "docker.DockerClient", name: str, instance_id: str) -> None:
    try:
        client.api.create_network(
            name,
            driver="bridge",
            options=_OPTIONS,
            check_duplicate=True,
            labels={"sinas.instance": instance_id, "sinas.type": "sandbox-network"},
        )
    except APIError as error:
        if error.status_code != 409:  # a creator with another lock file came first
            raise


def _find(client: "docker.DockerClient", name: str) -> list[dict[str, Any]]:
    """Networks of exactly this name, oldest first."""
    networks = [one for one in client.api.networks(names=[name]) if one["Name"] == name]
    return sorted(networks, key=lambda one: (one["Created"], one["Id"]))


def _remove(client: "docker.DockerClient", network: dict[str, Any]) -> None:
    if (network.get("Labels") or {}).get("sinas.type") != "sandbox-network":
        return
    try:
        client.api.remove_network(network["Id"])
    except NotFound:
        return
    except APIError as error:
        if error.status_code != 403:  # still in use: whoever uses it attached by id
            raise
