"""Batches of chats: messages to one agent, each answered in a chat of its own."""

from datetime import timedelta

from sinas.auth.principal import Principal
from sinas.db.unit import Unit
from sinas.errors import BadRequestError, FieldError
from sinas.models import BatchKind
from sinas.resources.batches.repository import Counts
from sinas.resources.batches.schemas import ChatBatchSubmit, ChatBatchSubmitted
from sinas.resources.batches.service import DEFAULT_PREFIX, BatchService, status_of
from sinas.resources.chats.service import ChatService
from sinas.settings import Settings

_NO_PROVIDER = (
    "execution_mode `provider` is not possible here: batches run on the queue of this platform; "
    "leave it out, or say `queue`."
)


class ChatBatchService:
    """Submitting batches of chats, for one caller, in one transaction."""

    def __init__(self, unit: Unit, principal: Principal, settings: Settings) -> None:
        self.unit = unit
        self.principal = principal
        self.settings = settings

    async def submit(self, namespace: str, name: str, data: ChatBatchSubmit) -> ChatBatchSubmitted:
        """Record a chat and a turn for each input, and queue the turns after the commit.

        An input that breaks the agent's schema is a failed turn; the others go on.

        Raises:
            ForbiddenError: No chat grant for the name; the same whether it exists or not.
            NotFoundError: The agent is absent or inactive.
            BadRequestError: A URL may not be called back, or the provider is to run the batch.
            InvalidInputError: Too many inputs.
        """
        chats = ChatService(self.unit, self.principal)
        agent = await chats.agents.for_chat(namespace, name)
        if data.execution_mode != "queue":
            raise BadRequestError(_NO_PROVIDER, [FieldError("execution_mode", _NO_PROVIDER)])
        batches = BatchService(self.unit, self.principal, self.settings.function)
        batch = await batches.add(BatchKind.AGENT, namespace, name, data)
        opened = await chats.open_many(
            agent,
            [(each.input_variables, each.message) for each in data.inputs],
            batch,
            self.settings,
            prefix=data.trigger_id_prefix or DEFAULT_PREFIX,
            delay=timedelta(seconds=data.delay_seconds or 0),
            callback_url=data.callback_url,
        )
        failed = sum(1 for each in opened if each.error is not None)
        return ChatBatchSubmitted(
            batch_id=batch.id,
            execution_ids=[each.turn_id for each in opened],
            chat_ids=[each.chat_id for each in opened],
            total=batch.total,
            status=status_of(batch, Counts(queued=batch.total - failed, failed=failed)),
            execution_mode="queue",
        )
