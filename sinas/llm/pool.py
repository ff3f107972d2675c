"""The HTTP connections to model providers, kept alive and shared by all clients of a process."""

import httpx

from sinas.llm.http1 import StreamTransport
from sinas.settings import has_proxy


class StreamPool:
    """One httpx client over `StreamTransport`, made on first use."""

    def __init__(self) -> None:
        self._client: httpx.AsyncClient | None = None

    def client(self) -> httpx.AsyncClient:
        """The client. Redirects are not followed."""
        if self._client is None:
            transport = StreamTransport()
            if has_proxy():
                # As a mount, ours gives way to the proxies, which httpx mounts under more
                # specific patterns; as `transport=` it would switch them off.
                self._client = httpx.AsyncClient(mounts={"all://": transport})
            else:
                # Spares httpx building a transport of its own (0.2 s for certificates).
                self._client = httpx.AsyncClient(transport=transport)
        return self._client

    async def aclose(self) -> None:
        """Close idle connections. No request may be running."""
        client, self._client = self._client, None
        if client is not None:
            await client.aclose()
