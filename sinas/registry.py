"""Everything that is in the system, in one list."""

from sinas.resources.agents.resource import RESOURCE as AGENTS
from sinas.resources.api_keys.resource import RESOURCE as API_KEYS
from sinas.resources.artifacts.resource import RESOURCE as ARTIFACTS
from sinas.resources.auth.resource import RESOURCE as AUTH
from sinas.resources.base import Resource
from sinas.resources.batches.resource import RESOURCE as BATCHES
from sinas.resources.budgets.resource import RESOURCE as BUDGETS
from sinas.resources.chats.resource import RESOURCE as CHATS
from sinas.resources.code.resource import RESOURCE as CODE
from sinas.resources.collections.resource import RESOURCE as COLLECTIONS
from sinas.resources.connectors.resource import RESOURCE as CONNECTORS
from sinas.resources.database_connections.resource import RESOURCE as DATABASE_CONNECTIONS
from sinas.resources.database_triggers.resource import RESOURCE as DATABASE_TRIGGERS
from sinas.resources.dependencies.resource import RESOURCE as DEPENDENCIES
from sinas.resources.executions.resource import RESOURCE as EXECUTIONS
from sinas.resources.files.resource import RESOURCE as FILES
from sinas.resources.functions.resource import RESOURCE as FUNCTIONS
from sinas.resources.jobs.resource import RESOURCE as JOBS
from sinas.resources.llm_providers.resource import RESOURCE as LLM_PROVIDERS
from sinas.resources.messages.resource import RESOURCE as MESSAGES
from sinas.resources.queries.resource import RESOURCE as QUERIES
from sinas.resources.queue.resource import RESOURCE as QUEUE
from sinas.resources.roles.resource import RESOURCE as ROLES
from sinas.resources.sandboxes.resource import RESOURCE as SANDBOXES
from sinas.resources.schedules.resource import RESOURCE as SCHEDULES
from sinas.resources.secrets.resource import RESOURCE as SECRETS
from sinas.resources.skills.resource import RESOURCE as SKILLS
from sinas.resources.stores.resource import RESOURCE as STORES
from sinas.resources.system.resource import RESOURCE as SYSTEM
from sinas.resources.templates.resource import RESOURCE as TEMPLATES
from sinas.resources.usage.resource import RESOURCE as USAGE
from sinas.resources.users.resource import RESOURCE as USERS
from sinas.resources.webhooks.resource import RESOURCE as WEBHOOKS

RESOURCES: tuple[Resource, ...] = (
    AGENTS,
    API_KEYS,
    ARTIFACTS,
    AUTH,
    BATCHES,
    CHATS,
    BUDGETS,
    CODE,
    COLLECTIONS,
    DATABASE_CONNECTIONS,
    DATABASE_TRIGGERS,
    CONNECTORS,
    DEPENDENCIES,
    EXECUTIONS,
    FILES,
    FUNCTIONS,
    JOBS,
    LLM_PROVIDERS,
    QUERIES,
    QUEUE,
    ROLES,
    MESSAGES,
    SANDBOXES,
    SCHEDULES,
    SECRETS,
    SKILLS,
    STORES,
    SYSTEM,
    TEMPLATES,
    USERS,
    WEBHOOKS,
    USAGE,
)
