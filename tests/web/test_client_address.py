"""TRUSTED_PROXIES decides at start, not at the first login."""

import pytest
from pydantic import ValidationError

from sinas.settings import AuthSettings


@pytest.mark.parametrize("value", ["", "10.0.0.1", " 10.0.0.0/8 , ::1,2001:db8::/32 "])
def test_networks(value):
    assert AuthSettings(trusted_proxies=value).trusted_proxies == value


@pytest.mark.parametrize("value", ["10.0.0", "proxy.example.com", "10.0.0.1,*"])
def test_anything_else_refuses_to_start(value):
    with pytest.raises(ValidationError, match="trusted_proxies"):
        AuthSettings(trusted_proxies=value)
