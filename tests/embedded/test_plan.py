import json
import socket
from pathlib import Path

import pytest

from sinas.embedded.datadir import DataDir, free_port
from sinas.embedded.errors import StartupError
from sinas.embedded.plan import UpOptions, make_plan
from sinas.embedded.probe import check_reachable, explain_health
from sinas.errors import ConfigurationError

FERNET = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="
STRONG = "an-access-key-of-forty-eight-random-characters-!"


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SINAS_ENV", "SECRET_KEY", "ENCRYPTION_KEY", "SUPERADMIN_EMAIL", "SANDBOX"):
        monkeypatch.delenv(name, raising=False)


def options(tmp_path: Path, **changes: object) -> UpOptions:
    values = {"host": "127.0.0.1", "port": free_port(), "data_dir": tmp_path, "local_model": False}
    return UpOptions(**{**values, **changes})  # type: ignore[arg-type]


def test_keys_and_admin_are_filled_in_outside_production(tmp_path: Path) -> None:
    data = DataDir.open(tmp_path)
    plan = make_plan(options(tmp_path), data)

    assert plan.env["SECRET_KEY"] == data.keys().secret_key
    assert plan.admin == "admin@example.com"
    assert plan.env["SINAS_INSTANCE_ID"] == data.instance_id()
    assert "SINAS_LOCAL_MODEL_URL" not in plan.env


def test_keys_of_the_environment_go_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_KEY", STRONG)
    monkeypatch.setenv("ENCRYPTION_KEY", FERNET)
    data = DataDir.open(tmp_path)

    plan = make_plan(options(tmp_path), data)

    assert plan.env["SECRET_KEY"] == STRONG
    assert not data.keys_file.exists()


@pytest.mark.parametrize(
    ("variables", "sentence"),
    [
        ({}, "SECRET_KEY is not set"),
        ({"SECRET_KEY": "short"}, "SECRET_KEY is too weak"),
        ({"SECRET_KEY": STRONG}, "ENCRYPTION_KEY is not set"),
        ({"SECRET_KEY": STRONG, "ENCRYPTION_KEY": FERNET}, "SUPERADMIN_EMAIL is not set"),
    ],
)
def test_production_generates_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], sentence: str
) -> None:
    monkeypatch.setenv("SINAS_ENV", "production")
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    data = DataDir.open(tmp_path)

    with pytest.raises(ConfigurationError, match=sentence):
        make_plan(options(tmp_path), data)
    assert not data.keys_file.exists()


def test_a_taken_port_is_named(tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen(1)
        port = other.getsockname()[1]
        with pytest.raises(StartupError, match=rf"port {port} on 127\.0\.0\.1 is already in use"):
            make_plan(options(tmp_path, port=port), DataDir.open(tmp_path))


def test_an_address_of_another_machine_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StartupError, match=r"cannot listen on 192\.0\.2\.1"):
        make_plan(options(tmp_path, host="192.0.2.1"), DataDir.open(tmp_path))


def test_a_wildcard_address_is_reached_over_loopback(tmp_path: Path) -> None:
    given = options(tmp_path, host="0.0.0.0")
    plan = make_plan(given, DataDir.open(tmp_path))

    assert plan.api_url == f"http://127.0.0.1:{given.port}"


def test_a_wrong_setting_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SANDBOX", "magic")

    with pytest.raises(ConfigurationError, match="SANDBOX"):
        make_plan(options(tmp_path), DataDir.open(tmp_path))


async def test_a_database_that_does_not_answer_is_named_without_its_password() -> None:
    port = free_port()
    url = f"postgresql://user:hidden@127.0.0.1:{port}/sinas"

    with pytest.raises(StartupError) as refused:
        await check_reachable("PostgreSQL", "DATABASE_URL", url)

    assert f"127.0.0.1 port {port}" in str(refused.value)
    assert "hidden" not in str(refused.value)


def test_health_is_explained() -> None:
    assert explain_health(0, "") == "the API does not answer yet."
    assert "503" in explain_health(503, "not json")
    report = {
        "status": "unhealthy",
        "database": "healthy",
        "redis": "unhealthy",
        "function_workers": 1,
        "agent_workers": 0,
        "sandbox": {"status": "unhealthy", "warnings": ["no engine"]},
    }
    assert explain_health(503, json.dumps(report)) == (
        "/health answers 503 (redis: unhealthy; agent workers: none; sandbox: no engine)."
    )
