"""E-mail addresses as identifiers: one spelling per address."""

import re
from typing import Annotated

from pydantic import AfterValidator, WithJsonSchema
from pydantic_core import PydanticCustomError

# Wider than deliverable and narrower than RFC 5322: no quoting, no comments, no spaces. Names of
# private networks (.local, .internal) are welcome; mail servers there are the operator's business.
_LABEL = r"[^\W_](?:[\w-]{0,61}[^\W_])?"
_ADDRESS = re.compile(
    rf"[^\s@<>()\[\],;:\\\"\x00-\x1f\x7f]{{1,64}}@(?:localhost|{_LABEL}(?:\.{_LABEL})+)"
)
_MAX_LENGTH = 254  # RFC 5321 §4.5.3.1.3, less the angle brackets


def normalise_email(text: str) -> str:
    """The address trimmed and in lower case.

    Raises:
        PydanticCustomError: Not an address; pydantic turns it into a field error.
    """
    address = text.strip().lower()
    if len(address) > _MAX_LENGTH or not _ADDRESS.fullmatch(address):
        raise PydanticCustomError(
            "email", "This is no e-mail address; write it like name@example.com."
        )
    return address


def domain_of(address: str) -> str:
    """What comes after the `@`, in lower case."""
    return address.rpartition("@")[2].lower()


Email = Annotated[
    str,
    AfterValidator(normalise_email),
    WithJsonSchema({"type": "string", "format": "email", "maxLength": _MAX_LENGTH}),
]
