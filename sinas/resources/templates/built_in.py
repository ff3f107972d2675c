"""The template that comes with the platform: the mail with a login code."""

from typing import Any, NamedTuple

from sinas.models import Template


class Name(NamedTuple):
    """Where a template is found."""

    namespace: str
    name: str


LOGIN_CODE = Name("default", "otp_email")
_TEXT = """\
Your login code is {{ otp_code }}

It works once, within {{ expiry_minutes }} minutes. If you did not try to log in, ignore this mail: \
without the code nobody can.
"""
_HTML = """\
<p>Your login code is</p>
<p style="font-size: 2em; letter-spacing: 0.2em"><strong>{{ otp_code }}</strong></p>
<p>It works once, within {{ expiry_minutes }} minutes. If you did not try to log in, ignore this \
mail: without the code nobody can.</p>
"""
_SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "otp_code": {"type": "string"},
        "user_email": {"type": "string"},
        "expiry_minutes": {"type": "integer"},
    },
}


def original_login_code() -> Template:
    """The mail with a login code, as it comes."""
    return Template(
        namespace=LOGIN_CODE.namespace,
        name=LOGIN_CODE.name,
        description="The mail with a login code. Variables: otp_code, user_email, expiry_minutes.",
        title="Your Sinas login code",
        html_content=_HTML,
        text_content=_TEXT,
        variable_schema=_SCHEMA,
    )
