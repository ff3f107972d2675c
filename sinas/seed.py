"""What a new installation starts with, and what every start makes sure of."""

from sqlalchemy import func, select

from sinas.auth.superadmin import superadmin_email
from sinas.context import AppContext
from sinas.resources.agents.seed import seed_default_agent
from sinas.resources.database_connections.seed import seed_builtin_database
from sinas.resources.llm_providers.seed import seed_local_provider
from sinas.resources.roles.seed import seed_roles
from sinas.resources.templates.seed import seed_login_code
from sinas.resources.users.seed import seed_superadmin

# Any number known to all API processes will do; migrations use another.
_ADVISORY_LOCK = 7_215_502


async def seed(context: AppContext) -> None:
    """Run every step in one transaction, in an order in which each finds what it needs.

    Processes that start together run it one after the other; the later ones change nothing.
    """
    async with context.unit() as unit:
        await unit.session.execute(select(func.pg_advisory_xact_lock(_ADVISORY_LOCK)))
        await seed_roles(unit)
        email = superadmin_email(context.settings)
        await seed_superadmin(unit, email)
        await seed_default_agent(unit, email)
        await seed_login_code(unit)
        await seed_local_provider(unit, context.settings.core.local_model_url)
        await seed_builtin_database(unit, context)
