"""The ways out of one sandbox: the Unix sockets that it is shown."""

from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from sinas.sandbox.egress import Egress
from sinas.sandbox.gateway import ApiGateway, SandboxSocket
from sinas.settings import Settings

# Where calls find the API, whatever port it has outside; its own port leads there as well.
_API_PORT = 8000
_PROXY_PORTS = (3128, 3129, 3130)


class Doors:
    """The API, and where egress is `proxy` the internet.

    Args:
        directory: For the sockets.
        settings: Say what there is.
        egress: The worker's way to the internet; None for none.
    """

    def __init__(self, directory: Path, settings: Settings, egress: Egress | None) -> None:
        self._core = settings.core
        self._has_proxy = egress is not None
        self._sockets: list[SandboxSocket] = [
            ApiGateway(directory / "api.sock", settings.core.api_url)
        ]
        if egress is not None:
            self._sockets.append(egress.proxy(directory / "proxy.sock"))

    async def open(self) -> None:
        """Listen.

        Raises:
            OSError: The directory does not take sockets.
        """
        for one in self._sockets:
            await one.start()

    async def aclose(self) -> None:
        """Close them and every connection."""
        for one in self._sockets:
            await one.aclose()

    def config(self, inside: str) -> dict[str, Any]:
        """The runner's configuration of them; `inside` is the directory as the sandbox sees it."""
        api_ports = list(dict.fromkeys((_API_PORT, self._core.port)))
        config: dict[str, Any] = {
            "api_socket": f"{inside}/api.sock",
            "api_url": urlsplit(self._core.api_url).path,
            "api_ports": api_ports,
        }
        if self._has_proxy:
            free = next(port for port in _PROXY_PORTS if port not in api_ports)
            config |= {"proxy_socket": f"{inside}/proxy.sock", "proxy_port": free}
        return config


def open_egress(settings: Settings) -> Egress | None:
    """The way to the internet that the settings ask for."""
    return Egress(settings) if settings.sandbox.egress == "proxy" else None
