"""What a model's name stands for: an agent, or a model of a provider."""

from sinas.adapters.openai.errors import ModelNotFoundError
from sinas.adapters.openai.schemas import Model
from sinas.auth.principal import Principal
from sinas.context import AppContext
from sinas.db.unit import Unit
from sinas.errors import BadRequestError, FieldError, ForbiddenError, NotFoundError
from sinas.models import Agent
from sinas.resources.agents.service import AgentService
from sinas.resources.llm_providers.use import (
    ANY_MODEL,
    DirectModel,
    DirectModelService,
    Offer,
    use_permission,
)

AGENT_PREFIX = "agent:"


def agent_model(agent: Agent) -> str:
    """How an agent is named."""
    return f"{AGENT_PREFIX}{agent.namespace}/{agent.name}"


def _model(found: Agent | DirectModel) -> Model:
    if isinstance(found, Agent):
        name, owner = agent_model(found), "sinas-agent"
    else:
        name, owner = found.name, f"sinas-provider-{found.provider}"
    return Model(id=name, created=int(found.created_at.timestamp()), owned_by=owner)


class ModelService:
    """Agents and providers' models, as far as one caller may use them.

    Names that both could have mean the provider's model: those are listed under them, agents
    only under names with the prefix.
    """

    def __init__(self, context: AppContext, unit: Unit, principal: Principal) -> None:
        self.principal = principal
        self.agents = AgentService(unit, principal)
        self.direct = DirectModelService(unit, principal, context.cipher)

    async def listing(self) -> list[Model]:
        """Everything the caller may use: agents, then models, by name."""
        agents = [_model(agent) for agent in await self.agents.chattable()]
        return agents + [_model(each) for each in await self.direct.listing()]

    async def get(self, name: str) -> Model:
        """One of them, under its full name.

        Raises:
            ModelNotFoundError: None of that name that the caller may use.
            BadRequestError: Several providers offer a model of that name.
        """
        if not name:
            raise ModelNotFoundError(name)
        try:
            found = await self.find(name)
        except ForbiddenError as error:
            raise ModelNotFoundError(name) from error
        return _model(found if isinstance(found, Agent) else found.listed)

    async def find(self, name: str | None) -> Agent | Offer:
        """What answers for a model's name; the default agent for none.

        Raises:
            ModelNotFoundError: None of that name that the caller may use.
            ForbiddenError: No grant that could cover that name, whatever there is.
            BadRequestError: No name and no default agent, or several providers offer it.
        """
        if not name:
            return await self._default()
        if not name.startswith(AGENT_PREFIX):
            offer = await self.direct.find(name)
            if offer is not None:
                return offer
        namespace, slash, agent = name.removeprefix(AGENT_PREFIX).partition("/")
        if not slash:
            if name.startswith(AGENT_PREFIX) or self.direct.may_use_some:
                raise ModelNotFoundError(name)
            raise ForbiddenError(
                f"Not authorized to use the model '{name}': this needs the permission "
                f"'{ANY_MODEL}', or one on that model of its provider."
            )
        try:
            return await self.agents.for_chat(namespace, agent)
        except NotFoundError as error:
            raise ModelNotFoundError(name) from error
        except ForbiddenError as error:
            if name.startswith(AGENT_PREFIX) or self.direct.may_use(namespace, agent):
                raise
            raise ForbiddenError(
                f"Not authorized to use the model '{name}': this needs the permission "
                f"'sinas.agents/{namespace}/{agent}.chat:all' for an agent of that name, or "
                f"'{use_permission(namespace, agent)}' for a provider's model."
            ) from error

    async def _default(self) -> Agent:
        try:
            return await self.agents.default_for_chat()
        except NotFoundError as error:
            message = "No model specified and no default agent configured"
            raise BadRequestError(message, [FieldError("model", message)]) from error
