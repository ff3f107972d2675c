"""The templates a new installation starts with."""

from sqlalchemy import select

from sinas.db.unit import Unit
from sinas.models import Template
from sinas.resources.templates.built_in import LOGIN_CODE, original_login_code


async def seed_login_code(unit: Unit) -> None:
    """Create the mail of login codes unless its name is taken. It belongs to nobody."""
    known = select(Template.id).where(
        Template.namespace == LOGIN_CODE.namespace, Template.name == LOGIN_CODE.name
    )
    if await unit.session.scalar(known) is None:
        unit.session.add(original_login_code())
