"""What one worker has: sandboxes for one call each, and the shared pool, over one back end."""

from collections.abc import Mapping

from typing_extensions import override

from sinas.sandbox.base import (
    Ask,
    Invocation,
    Outcome,
    Profile,
    Reloaded,
    Sandbox,
    SandboxStatus,
    Scaled,
    Usage,
)
from sinas.sandbox.pool import MemberSource, SandboxPool
from sinas.sandbox.shared import SharedPool
from sinas.sandbox.usage import measure
from sinas.settings import Settings


class BothPools(Sandbox):
    """Sends shared calls to the shared pool, and all others to a sandbox of their own.

    Args:
        source: The back end; opened and closed with this.
        settings: Sizes and times.
        most: See `SandboxPool`.
        shared: What the sandboxes of the shared pool are made for.
    """

    def __init__(
        self, source: MemberSource, settings: Settings, *, most: int, shared: Profile
    ) -> None:
        self._source = source
        self._settings = settings.sandbox
        self._own = SandboxPool(source, settings.sandbox, most=most)
        self._shared = SharedPool(source, settings.sandbox, shared)

    @override
    async def start(self) -> None:
        await self._own.start()
        await self._shared.start()

    @override
    async def run(self, invocation: Invocation, ask: Ask | None = None) -> Outcome:
        if invocation.shared:
            return await self._shared.run(invocation, ask)
        return await self._own.run(invocation)

    @override
    def status(self) -> SandboxStatus:
        return SandboxStatus(
            backend=self._source.backend,
            boundary=self._source.boundary,
            warnings=self._source.warnings,
            idle=self._own.idle(),
            in_use=self._own.in_use(),
            max_size=self._settings.max_size,
            min_idle=self._own.min_idle,
            shared=self._shared.members(),
        )

    @override
    async def usage(self) -> Mapping[str, Usage]:
        return await measure([*self._own.sandboxes(), *self._shared.sandboxes()])

    @override
    def replace(self, name: str) -> bool:
        return self._own.replace(name) or self._shared.replace(name)

    @override
    async def scale_sandboxes(self, target: int) -> Scaled:
        return await self._own.scale(target)

    @override
    async def reload_sandboxes(self) -> Reloaded:
        return await self._own.reload()

    @override
    async def scale_shared(self, target: int) -> Scaled:
        return await self._shared.scale(target)

    @override
    async def reload_shared(self) -> Reloaded:
        return await self._shared.reload()

    @override
    async def aclose(self) -> None:
        # The back end closes with its own pool, so that one goes last.
        try:
            await self._shared.aclose()
        finally:
            await self._own.aclose()
