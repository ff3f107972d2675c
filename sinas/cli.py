"""The command line. Each command is one call into the platform; heavy imports wait inside it."""

import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from sinas.embedded.errors import first
from sinas.errors import SinasError

DEFAULT_DATA_DIR = Path("data")

app = typer.Typer(
    name="sinas",
    help="Self-hosted AI platform: agents and functions behind one API.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
worker = typer.Typer(help="Run one worker process.", no_args_is_help=True)
keys = typer.Typer(help="API keys.", no_args_is_help=True)
users = typer.Typer(help="Users.", no_args_is_help=True)
app.add_typer(worker, name="worker")
app.add_typer(keys, name="api-key")
app.add_typer(users, name="users")

DataDirOption = Annotated[
    Path,
    typer.Option(
        "--data-dir",
        envvar="SINAS_DATA_DIR",
        help="Directory of the databases and keys.",
    ),
]
EmailOption = Annotated[str, typer.Option("--email", help="E-mail of the user.")]
Supervised = Annotated[bool, typer.Option("--supervised", hidden=True)]


class WorkerKind(StrEnum):
    """The two kinds of worker."""

    FUNCTIONS = "functions"
    AGENTS = "agents"


@app.command()
def up(
    port: Annotated[int, typer.Option(help="Port of the API.")] = 8000,
    host: Annotated[str, typer.Option(help="Address the API listens on.")] = "127.0.0.1",
    data_dir: DataDirOption = DEFAULT_DATA_DIR,
    local_model: Annotated[
        bool, typer.Option("--local-model/--no-local-model", help="Serve the offline model.")
    ] = True,
) -> None:
    """Run the whole platform: databases, API, workers, scheduler and offline model."""
    import asyncio

    from sinas.embedded.console import Console
    from sinas.embedded.plan import UpOptions
    from sinas.embedded.supervisor import run_up

    options = UpOptions(host=host, port=port, data_dir=data_dir, local_model=local_model)
    raise SystemExit(asyncio.run(run_up(options, Console(sys.stdout))))


@app.command()
def serve(supervised: Supervised = False) -> None:
    """Run the API. Needs DATABASE_URL, REDIS_URL, SECRET_KEY and ENCRYPTION_KEY."""
    import uvicorn

    import sinas.app  # noqa: F401 - imported before the word to go, the slowest part of a start

    _wait(supervised)
    from sinas.settings import load_settings

    core = load_settings().core
    config = uvicorn.Config(
        "sinas.app:create_app",
        factory=True,
        loop="uvloop",
        http="httptools",
        host=core.host,
        port=core.port,
        access_log=False,
        lifespan="on",
        log_config=None,
        # The platform itself decides whose X-Forwarded-For it believes (TRUSTED_PROXIES).
        proxy_headers=False,
        server_header=False,
        timeout_graceful_shutdown=2,
    )
    uvicorn.Server(config).run()


@worker.command("functions")
def worker_functions(supervised: Supervised = False) -> None:
    """Run function calls. The only process that needs the Docker socket."""
    _work(WorkerKind.FUNCTIONS, supervised)


@worker.command("agents")
def worker_agents(supervised: Supervised = False) -> None:
    """Run agent turns."""
    _work(WorkerKind.AGENTS, supervised)


def _work(kind: WorkerKind, supervised: bool) -> None:
    from sinas.worker import run_worker

    _wait(supervised)
    run_worker(kind.value)


@app.command()
def scheduler(supervised: Supervised = False) -> None:
    """Run what recurs: takeover of lost work, clean-up. One at a time does the work."""
    from sinas.scheduler import run_scheduler

    _wait(supervised)
    run_scheduler()


@app.command()
def cdc(supervised: Supervised = False) -> None:
    """Watch the tables of database triggers. Several share the work."""
    from sinas.cdc import run_cdc

    _wait(supervised)
    run_cdc()


@app.command()
def migrate(supervised: Supervised = False) -> None:
    """Bring the database schema up to date."""
    from sqlalchemy.exc import SQLAlchemyError

    from sinas.db.migrate import upgrade
    from sinas.settings import read_settings

    _wait(supervised)
    try:
        upgrade(read_settings().database.url, progress=_say)
    except (SQLAlchemyError, OSError) as error:
        _fail(str(getattr(error, "orig", None) or error).replace("\n", " "))


@app.command("local-model", hidden=True)
def local_model(port: Annotated[int, typer.Option()], supervised: Supervised = False) -> None:
    """Serve the offline model on a loopback port."""
    from sinas.embedded.local_model import serve as serve_model

    _wait(supervised)
    serve_model(port)


@app.command("sandbox-image", hidden=True)
def sandbox_image() -> None:
    """Make the executor image; the last line printed says which back end will be used."""
    from sinas.sandbox.image import engine_available, ensure_image
    from sinas.settings import read_settings

    settings = read_settings().sandbox
    strict = settings.backend == "docker"
    if not engine_available():
        if strict:
            _fail("no Docker engine answers")
        _say("process back end, which isolates less (no Docker engine answers)")
        return
    try:
        ensure_image(settings, _say)
    except SinasError as error:
        if strict:
            _fail(str(error))
        _say(f"process back end, which isolates less ({error})")
        return
    _say("Docker, executor image ready")


@app.command("sandbox-clean", hidden=True)
def sandbox_clean() -> None:
    """Remove this instance's containers."""
    from sinas.sandbox.docker import remove_all
    from sinas.sandbox.image import engine_available
    from sinas.settings import read_settings

    if engine_available():
        remove_all(read_settings().core.instance_id)


@app.command("nursery", hidden=True)
def nursery(
    descriptor: Annotated[int, typer.Argument()],
    padding: Annotated[str, typer.Argument()] = "",  # noqa: ARG001 - room for longer command lines
) -> None:
    """Import the platform once and fork its processes."""
    from sinas.embedded.nursery import run_nursery

    run_nursery(descriptor, main)


@keys.command("create")
def create_key(
    email: EmailOption,
    name: Annotated[str, typer.Option("--name", help="What the key is for.")],
    data_dir: DataDirOption = DEFAULT_DATA_DIR,
) -> None:
    """Create an API key and print it, alone, on standard output."""
    import asyncio

    from sinas.embedded.accounts import create_api_key

    _connect(data_dir)
    key = asyncio.run(create_api_key(email, name))
    print(key)
    _note("This is the only time the key is shown.")


@users.command("create")
def create_user(email: EmailOption, data_dir: DataDirOption = DEFAULT_DATA_DIR) -> None:
    """Create a user with the default role."""
    import asyncio

    from sinas.embedded.accounts import create_user as create

    _connect(data_dir)
    print(asyncio.run(create(email)))


@app.command()
def chat(
    agent: Annotated[str, typer.Argument(help="namespace/name")] = "default/default",
    message: Annotated[str, typer.Argument(help="Without one, you can talk.")] = "",
    data_dir: DataDirOption = DEFAULT_DATA_DIR,
) -> None:
    """Talk to an agent. Uses SINAS_BASE_URL and SINAS_API_KEY, or the local instance."""
    from sinas.embedded.terminal import run_chat

    raise SystemExit(run_chat(agent, message, data_dir))


def main() -> None:
    """Entry point of the `sinas` command: one sentence and exit code 1 for what we foresee."""
    try:
        app()
    except* SinasError as errors:
        _fail(str(first(errors)))


def _wait(supervised: bool) -> None:
    if supervised:
        from sinas.embedded.lifeline import wait_for_go

        wait_for_go()


def _connect(data_dir: Path) -> None:
    from sinas.embedded.datadir import connect

    connect(data_dir)


def _say(line: str) -> None:
    print(line, flush=True)


def _note(line: str) -> None:
    print(line, file=sys.stderr)


def _fail(reason: str) -> NoReturn:
    _note(f"sinas: {reason}")
    raise SystemExit(1)
