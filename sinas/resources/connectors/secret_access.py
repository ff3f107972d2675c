"""Secrets on their way to a host, as one connector may send them for one caller."""

from sinas.auth.principal import Principal
from sinas.context import AppContext
from sinas.egress.urls import parse_url
from sinas.errors import BadRequestError
from sinas.models import SecretVisibility
from sinas.resources.connectors.checks import header_problem
from sinas.resources.connectors.targets import Target
from sinas.resources.secrets.service import secret_for_host


async def secret_of(context: AppContext, caller: Principal, target: Target, url: str) -> str:
    """The secret that a connector's `auth` names, about to go to the host of `url`.

    Read in a short transaction of its own.

    Raises:
        BadRequestError: There is none, or it cannot be sent in a header.
        ForbiddenError: It may not be sent there.
        UnreadableSecretError: It cannot be decrypted.
    """
    name = str(target.auth.get("secret") or "")

    def trusts(kind: SecretVisibility) -> bool:
        # An imported document may say that an operation is somewhere else.
        return not target.is_elsewhere and target.may_send_for(caller.user_id, kind)

    async with context.statement_sessions() as session:
        value = await secret_for_host(
            session, context.cipher, caller.user_id, name, host_of(url), trusts=trusts
        )
    if problem := header_problem(value):
        raise BadRequestError(f"The secret '{name}' cannot be sent: it {problem}.")
    return value


def host_of(url: str) -> str:
    """The host of a URL that was checked when it was stored, in the form DNS knows."""
    return parse_url(url).raw_host.decode("ascii").lower()
