"""What an agent's `enabled_skills` say of each skill: preloaded, or a tool."""

from collections.abc import Sequence
from dataclasses import dataclass

from sinas.crud.references import closest
from sinas.models import Agent


@dataclass(frozen=True, slots=True)
class EnabledSkills:
    """The entries of one agent, in its order.

    A skill that several entries name goes by the most specific one; preloading wins a draw, as
    what is always there need not be loaded.
    """

    references: tuple[str, ...]
    preload: tuple[bool, ...]

    @classmethod
    def of(cls, agent: Agent) -> "EnabledSkills":
        """The entries of an agent."""
        entries: Sequence[dict[str, object]] = agent.enabled_skills
        return cls(
            tuple(str(entry["skill"]) for entry in entries),
            tuple(bool(entry.get("preload")) for entry in entries),
        )

    def some(self, *, preload: bool) -> list[str]:
        """The references that preload, or those that do not."""
        pairs = zip(self.references, self.preload, strict=True)
        return [reference for reference, preloads in pairs if preloads is preload]

    def place(self, namespace: str, name: str, *, preload: bool) -> int | None:
        """Place of the entry by which a skill is preloaded, or is a tool; None if it is not."""
        places = closest(self.references, namespace, name)
        preloading = [place for place in places if self.preload[place]]
        if preload:
            return preloading[0] if preloading else None
        return places[0] if places and not preloading else None
