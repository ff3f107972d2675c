"""What one `sinas up` will run: options and environment turned into a child environment."""

import sys
from dataclasses import dataclass
from pathlib import Path

from sinas.auth.superadmin import superadmin_email
from sinas.embedded.datadir import DataDir, is_port_free
from sinas.embedded.errors import StartupError
from sinas.embedded.local_model import missing_wheels
from sinas.embedded.processes import ChildSpec
from sinas.settings import Settings, check_keys, environment, read_settings

_EVERY_ADDRESS = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}  # noqa: S104 - compared, not bound


@dataclass(frozen=True, slots=True, kw_only=True)
class UpOptions:
    """The command line of `sinas up`."""

    host: str
    port: int
    data_dir: Path
    local_model: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Everything decided before the first process starts."""

    options: UpOptions
    data: DataDir
    settings: Settings
    instance_id: str
    admin: str
    local_model_port: int | None
    """Loopback port of the offline model; None where it is not served."""
    local_model_note: str
    """Why there is no offline model, or nothing."""
    env: dict[str, str]
    """Environment of the platform's processes, but for the two database addresses."""

    @property
    def reach_host(self) -> str:
        """An address of this machine at which the API answers."""
        return _EVERY_ADDRESS.get(self.options.host, self.options.host)

    @property
    def api_url(self) -> str:
        """Base URL of the API as somebody at this machine reaches it."""
        host = f"[{self.reach_host}]" if ":" in self.reach_host else self.reach_host
        return f"http://{host}:{self.options.port}"

    def sinas(self, name: str, *arguments: str, waits: bool = True) -> ChildSpec:
        """A child that runs one of our own commands."""
        supervised = ("--supervised",) if waits else ()
        return ChildSpec(
            name=name,
            argv=(sys.executable, "-m", "sinas", *arguments, *supervised),
            env=self.env,
            waits=waits,
        )


def make_plan(options: UpOptions, data: DataDir) -> Plan:
    """Decide what will run. Generates keys and the instance's name at first use.

    Raises:
        ConfigurationError: A setting is wrong, or production lacks a good key.
        StartupError: The port is taken.
    """
    settings = read_settings()
    if settings.is_production:
        check_keys(settings)
    check_port(options.host, options.port)
    port, note = _local_model(options, data)
    instance_id = data.instance_id()
    env = environment()
    env |= {
        "SINAS_HOST": options.host,
        "SINAS_PORT": str(options.port),
        "SINAS_DATA_DIR": str(data.root),
        "PYTHONUNBUFFERED": "1",
        # One arena per thread keeps memory that nobody uses.
        "MALLOC_ARENA_MAX": "2",
    }
    # Without bytecode files every start compiles every module of five processes again.
    env.pop("PYTHONDONTWRITEBYTECODE", None)
    instance_id = env.setdefault("SINAS_INSTANCE_ID", instance_id)
    if not settings.is_production:
        _add_keys(env, data)
    if port is not None:
        env["SINAS_LOCAL_MODEL_URL"] = f"http://127.0.0.1:{port}/v1"
    plan = Plan(
        options=options,
        data=data,
        settings=settings,
        instance_id=instance_id,
        admin=superadmin_email(settings),
        local_model_port=port,
        local_model_note=note,
        env=env,
    )
    env.setdefault("SINAS_INTERNAL_API_URL", plan.api_url)
    return plan


def check_port(host: str, port: int) -> None:
    """Refuse an address the API could not listen on.

    Raises:
        StartupError: It is taken, not ours, or needs privileges.
    """
    try:
        free = is_port_free(host, port)
    except OSError as error:
        raise StartupError(
            "API",
            f"cannot listen on {host} port {port}: {error.strerror or error}.",
            "Choose another with --host and --port.",
        ) from error
    if not free:
        raise StartupError(
            "API",
            f"port {port} on {host} is already in use.",
            "Stop what listens there, or choose another with --port.",
        )


def _local_model(options: UpOptions, data: DataDir) -> tuple[int | None, str]:
    if not options.local_model:
        return None, "off (--no-local-model)"
    if missing := missing_wheels():
        return None, f"off ({' and '.join(missing)} not installed; `make setup` installs them)"
    return data.local_model_port(), ""


def _add_keys(env: dict[str, str], data: DataDir) -> None:
    if env.get("SECRET_KEY") and env.get("ENCRYPTION_KEY"):
        return
    keys = data.keys()
    env["SECRET_KEY"] = env.get("SECRET_KEY") or keys.secret_key
    env["ENCRYPTION_KEY"] = env.get("ENCRYPTION_KEY") or keys.encryption_key
