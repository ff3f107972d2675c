"""The executor image: built from the runner that is shipped with this package."""

import hashlib
import io
import socket
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import docker
from docker.errors import APIError, BuildError, DockerException, ImageNotFound
from requests.exceptions import RequestException

from sinas.errors import UnavailableError
from sinas.settings import SandboxSettings, environment

_FOLDER = Path(__file__).parent
_DEFAULT_BASE = "python:3.11-slim"
_CONNECT_SECONDS = 5
_REQUEST_SECONDS = 60


def connect(timeout_seconds: int = _REQUEST_SECONDS) -> "docker.DockerClient":
    """A client of the engine the environment names (DOCKER_HOST), else of the local socket.

    Raises:
        UnavailableError: No engine answers.
    """
    variables = environment()
    try:
        _knock(variables.get("DOCKER_HOST", "unix:///var/run/docker.sock"))
        client = docker.from_env(environment=variables, timeout=timeout_seconds)
    except (DockerException, RequestException, OSError) as error:
        raise UnavailableError(f"No Docker engine answers: {error}") from error
    return client


def _knock(host: str) -> None:
    """Fail early, and without the socket the SDK forgets to close, where nobody listens."""
    if host.startswith("unix://"):
        with socket.socket(socket.AF_UNIX) as probe:
            probe.settimeout(_CONNECT_SECONDS)
            probe.connect(host.removeprefix("unix://"))


def engine_available() -> bool:
    """Whether a Docker engine answers within five seconds. Blocks."""
    try:
        client = connect(_CONNECT_SECONDS)
    except UnavailableError:
        return False
    try:
        return bool(client.ping())
    except (DockerException, RequestException):
        return False
    finally:
        client.close()


def ensure_image(settings: SandboxSettings, progress: Callable[[str], None]) -> str:
    """Make sure the executor image of this version exists; returns its tag. Blocks.

    The tag is a hash of the runner, the Dockerfile and the base, so another version of any of
    them is another image. FUNCTION_CONTAINER_IMAGE with a tag, digest or registry (such as
    `team/python:1`) is the base the runner is added to; a bare name only names the result.

    Args:
        settings: For the image's name.
        progress: Told each step as one line.

    Raises:
        UnavailableError: It is not there and can be neither built nor pulled.
    """
    base, tag = image_names(settings.image)
    client = connect()
    try:
        if _present(client, tag):
            return tag
        progress(f"Building the executor image {tag} from {base}.")
        try:
            _build(client, base, tag, progress)
        except (APIError, BuildError, RequestException) as error:
            progress(f"The build failed ({error}); trying to pull {tag}.")
            _pull(client, tag, f"building it failed: {error}")
        return tag
    except (DockerException, RequestException) as error:
        raise UnavailableError(f"The Docker engine failed: {error}") from error
    finally:
        client.close()


def image_names(image: str) -> tuple[str, str]:
    """Base image, and tag of the executor image, for the setting `image`."""
    is_base = any(mark in image for mark in ":@/")
    base = image if is_base else _DEFAULT_BASE
    digest = hashlib.sha256(base.encode())
    for name, content in _context():
        digest.update(name.encode() + b"\0" + content + b"\0")
    return base, f"{'sinas-executor' if is_base else image}:{digest.hexdigest()[:16]}"


def _present(client: "docker.DockerClient", tag: str) -> bool:
    try:
        client.images.get(tag)
    except ImageNotFound:
        return False
    return True


def _build(
    client: "docker.DockerClient", base: str, tag: str, progress: Callable[[str], None]
) -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, content in _context():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(content), 0o644
            archive.addfile(entry, io.BytesIO(content))
    buffer.seek(0)
    events: Iterator[dict[str, Any]] = client.api.build(
        fileobj=buffer,
        custom_context=True,
        tag=tag,
        buildargs={"BASE": base},
        network_mode="none",  # nothing is downloaded but the base
        rm=True,
        forcerm=True,
        decode=True,
    )
    for event in events:
        if "error" in event:
            raise BuildError(str(event["error"]), iter(()))
        text = str(event.get("stream", "")).strip()
        if text:
            progress(text)


def _pull(client: "docker.DockerClient", tag: str, cause: str) -> None:
    try:
        client.images.pull(tag)
    except (DockerException, RequestException) as error:
        raise UnavailableError(
            f"The executor image {tag} is not there; {cause}; pulling it failed: {error}"
        ) from error


def _context() -> list[tuple[str, bytes]]:
    """Files of the build context, in a stable order."""
    runner = sorted((_FOLDER / "runner").glob("*.py"))
    files = [("Dockerfile", _FOLDER / "image" / "Dockerfile")]
    files += [(f"runner/{path.name}", path) for path in runner]
    return [(name, path.read_bytes()) for name, path in files]
