"""What a turn says in its current round: to clients now, and to be stored when it ends."""

from sinas.chat import events
from sinas.chat.answer import Replay
from sinas.chat.channel import ChannelWriter, Emitted, read_emitted
from sinas.context import AppContext
from sinas.llm.assemble import TurnText
from sinas.llm.base import Delta
from sinas.models import Turn


class Saying:
    """The text of one round at a time.

    Attributes:
        answer: What the model said, or what stands in for it.
        replay: What earlier workers showed of it.
    """

    def __init__(self, app: AppContext, turn: Turn) -> None:
        self._app = app
        self._channel_id = turn.channel_id
        self.writer = ChannelWriter(
            app.redis, turn.channel_id, turn.fence, app.settings.chat.stream_ttl_seconds
        )
        self.writer.round_number = turn.rounds
        self.answer = TurnText()
        self.replay = Replay(Emitted())

    def begin(self) -> None:
        """Nothing has been said yet."""
        self.answer = TurnText()
        self.replay = Replay(Emitted())

    @property
    def shown(self) -> str | None:
        """The text clients have of the round; None when there is none to keep."""
        if self.writer.holds:
            return None  # nor may anybody have it
        text = self.answer.content if self.replay.is_over else self.replay.emitted.text
        return text or None

    async def recall(self) -> None:
        """Learn what an earlier worker showed of the round."""
        await self.writer.take()
        known = await read_emitted(self._app.redis, self._channel_id, self.writer.round_number)
        self.replay = Replay(known)

    def keep(self, text: str) -> None:
        """Store `text` instead; what clients were shown is out."""
        reason = self.answer.finish_reason
        self.begin()
        self.answer.add(Delta(text, finish_reason=reason))

    async def take_back(self) -> None:
        """Make clients forget all of the round, also what earlier workers showed them."""
        is_held = self.writer.holds
        self.writer.drop()
        await self.writer.flush()
        known = await read_emitted(self._app.redis, self._channel_id, self.writer.round_number)
        if known.partial:
            self.writer.take_back(known.partial)
        if is_held:
            self.writer.hold()
        self.begin()

    async def instead(self, text: str, event: events.Event | None = None) -> None:
        """Say `text`, by `event`, in place of all that was said in the round."""
        reason = self.answer.finish_reason or "stop"
        await self.take_back()
        self.answer.add(Delta(text, finish_reason=reason))
        self.writer.put(event or events.message(text, finish_reason=reason))
