"""What counts as an e-mail address."""

import pytest
from pydantic import TypeAdapter, ValidationError

from sinas.kit.email import Email, domain_of

email = TypeAdapter(Email)


@pytest.mark.parametrize(
    ("given", "stored"),
    [
        ("admin@example.com", "admin@example.com"),
        ("  Ann.Lee+tag@Example.COM ", "ann.lee+tag@example.com"),
        ("root@localhost", "root@localhost"),
        ("x@corp.local", "x@corp.local"),
        ("o'brien@a-b.example.co.uk", "o'brien@a-b.example.co.uk"),
        ("jürgen@bücher.example", "jürgen@bücher.example"),
    ],
)
def test_one_spelling_per_address(given, stored):
    assert email.validate_python(given) == stored


@pytest.mark.parametrize(
    "given",
    [
        "",
        "ann",
        "@example.com",
        "ann@",
        "ann@@example.com",
        "ann@example",
        "ann@-example.com",
        "ann@example..com",
        "ann lee@example.com",
        "ann@example.com\nBcc: all@example.com",
        "ann\x00@example.com",
        "<ann@example.com>",
        "a" * 65 + "@example.com",
        "ann@" + "a." * 130 + "com",
    ],
)
def test_rubbish_is_refused(given):
    with pytest.raises(ValidationError, match="no e-mail address"):
        email.validate_python(given)


def test_domain():
    assert domain_of("ann@Example.com") == "example.com"
