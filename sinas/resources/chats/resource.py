"""Declaration of chats."""

from sinas.chat.stopping import stop_delegated
from sinas.chat.turn import TURN_JOB
from sinas.resources.base import Resource
from sinas.resources.chats.jobs import SWEEPS
from sinas.resources.chats.runtime import router
from sinas.resources.chats.tools import ConversationTools

RESOURCE = Resource(
    name="chat",
    runtime=router,
    tools=ConversationTools,
    jobs=(TURN_JOB,),
    sweeps=SWEEPS,
    abandon=stop_delegated,
)
