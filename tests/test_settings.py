"""Settings: what the environment says, and what is refused at start."""

from typing import Any

import pytest
from pydantic import SecretStr

from sinas.errors import ConfigurationError
from sinas.settings import GROUPS, Settings, check_keys, load_settings, read_settings
from tests.fixtures.configuration import changed, variables

STRONG = "q8Zr3uVbT1yWx5cNe7mKp2sLd9fGh4jA"
FERNET = "dGVzdHMtZW5jcnlwdC13aXRoLXRoaXMta2V5LTAxMjM="


@pytest.fixture
def keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_KEY", STRONG)
    monkeypatch.setenv("ENCRYPTION_KEY", FERNET)


def with_auth(settings: Settings, *, env: str = "production", **auth: Any) -> Settings:
    return changed(settings, core={"env": env}, auth=auth)


def test_every_group_reads_the_environment(keys: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SANDBOX_MIN_SIZE", "7")
    monkeypatch.setenv("SANDBOX", "process")
    monkeypatch.setenv("DATABASE_URL", "postgresql://here/db")
    monkeypatch.setenv("SINAS_PORT", "9000")
    monkeypatch.setenv("QUEUE_LEASE_SECONDS", "2.5")
    settings = load_settings()
    assert settings.sandbox.min_size == 7
    assert settings.sandbox.backend == "process"
    assert settings.database.url == "postgresql://here/db"
    assert settings.core.api_url == "http://127.0.0.1:9000"
    assert settings.queue.lease_seconds == 2.5


def test_no_variable_means_two_things() -> None:
    """Fix: give one of the two fields another name or an alias."""
    names = [name for name, _ in variables()]
    assert len(names) == len(set(names))


def test_every_field_says_what_it_is() -> None:
    for group in GROUPS.values():
        assert (group.__doc__ or "").strip()
        for name, field in group.model_fields.items():
            assert (field.description or "").endswith("."), f"{group.__name__}.{name}"


@pytest.mark.parametrize(
    ("variable", "value"),
    [("SANDBOX_MIN_SIZE", "many"), ("SINAS_ENV", "staging"), ("DB_POOL_SIZE", "1.5")],
)
def test_a_wrong_value_names_its_variable(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(ConfigurationError, match=variable):
        read_settings()


@pytest.mark.parametrize("missing", ["SECRET_KEY", "ENCRYPTION_KEY"])
def test_a_missing_key_is_named_with_the_way_to_make_one(
    keys: None, monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    monkeypatch.delenv(missing)
    with pytest.raises(ConfigurationError, match=f"{missing} is not set.*python3 -c"):
        load_settings()


def test_the_keys_are_not_in_a_printed_setting(keys: None) -> None:
    assert STRONG not in repr(load_settings())
    assert FERNET not in repr(load_settings())


@pytest.mark.parametrize(
    "weak", ["your-secret-key-change-in-production", "changeme", "short", "a" * 64, "abab" * 16]
)
def test_weak_keys_are_for_development_only(keys: None, weak: str) -> None:
    settings = load_settings()
    email = {"superadmin_email": "admin@example.com"}
    check_keys(with_auth(settings, **email))
    check_keys(with_auth(settings, env="development", secret_key=SecretStr(weak)))
    with pytest.raises(ConfigurationError, match="SECRET_KEY is too weak"):
        check_keys(with_auth(settings, secret_key=SecretStr(weak), **email))


def test_production_needs_a_first_admin(keys: None) -> None:
    with pytest.raises(ConfigurationError, match="SUPERADMIN_EMAIL"):
        check_keys(with_auth(load_settings(), superadmin_email=""))
