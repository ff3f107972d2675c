"""Declaration of chats."""

from sinas.chat.turn import TURN_JOB
from sinas.resources.base import Resource
from sinas.resources.chats.jobs import SWEEPS
from sinas.resources.chats.runtime import router

RESOURCE = Resource(name="chat", runtime=router, jobs=(TURN_JOB,), sweeps=SWEEPS)
