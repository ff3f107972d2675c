"""TLS as the modes of libpq name it, for every driver."""

import ssl

from sinas.databases.base import DatabaseTarget, UnreachableError

CA_OPTION = "ssl_ca"


def context_for(target: DatabaseTarget) -> ssl.SSLContext:
    """For `require` (encrypted, not verified), `verify-ca` and `verify-full`.

    The authorities are those of `config.ssl_ca` (PEM), else the system's.

    Raises:
        UnreachableError: `ssl_ca` is no certificate.
    """
    authority = dict(target.options).get(CA_OPTION)
    try:
        context = ssl.create_default_context(cadata=authority)
    except (ssl.SSLError, ValueError) as error:
        raise UnreachableError(f"config.{CA_OPTION} is no certificate in PEM form.") from error
    if target.ssl_mode in ("require", "prefer", "allow"):
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    elif target.ssl_mode == "verify-ca":
        context.check_hostname = False
    return context
