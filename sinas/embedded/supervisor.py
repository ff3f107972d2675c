"""The order of `sinas up`: services, schema, processes, health; and the way back."""

import asyncio
import contextlib
import os
import signal
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

from sinas.embedded.children import Child, last_lines
from sinas.embedded.console import Console, Steps
from sinas.embedded.datadir import DataDir, Runtime, write_private
from sinas.embedded.errors import StartupError, first
from sinas.embedded.forked import Nursery
from sinas.embedded.leftovers import end_leftovers, record
from sinas.embedded.plan import Plan, UpOptions, make_plan
from sinas.embedded.postgres import EmbeddedPostgres
from sinas.embedded.probe import check_reachable, explain_health, get, wait_until_ok
from sinas.embedded.processes import ChildSpec, spawn
from sinas.embedded.redis import EmbeddedRedis
from sinas.errors import SinasError

_SERVICE_SECONDS: Final = 60.0
_HEALTH_SECONDS: Final = 120.0
_MODEL_SECONDS: Final = 15.0
_TRIES_BEFORE_READY: Final = 3
# Seconds after the signal by which each must be gone; ten in all.
_STOP_ORDER: Final = (
    (("api",), 2.5),
    (("agents",), 5.0),
    (("functions", "scheduler", "cdc", "model"), 7.5),
    (("redis", "postgres"), 9.5),
)


async def run_up(options: UpOptions, console: Console) -> int:
    """Run the platform until a signal ends it.

    Returns:
        Exit code: 0 after an orderly end, 1 where the start failed.
    """
    try:
        data = DataDir.open(options.data_dir)
        with data.lock():
            return await Supervisor(options, data, console).run()
    except SinasError as error:
        console.strong(f"Sinas could not start. {error}")
        return 1


class Supervisor:
    """One run on a data directory whose lock the caller holds."""

    def __init__(self, options: UpOptions, data: DataDir, console: Console) -> None:
        """Remember them; `run` does the work."""
        self._options = options
        self._data = data
        self._console = console
        self._children: dict[str, Child] = {}
        self._tasks = asyncio.TaskGroup()
        self._end = asyncio.Event()
        self._nursery: Nursery | None = None
        self._failure: SinasError | None = None
        self._began = time.monotonic()

    async def run(self) -> int:
        """Start everything, wait for a signal, end everything.

        Raises:
            StartupError: The start failed; everything has been ended again.
            ConfigurationError: A setting is wrong; nothing was started.
        """
        left = end_leftovers(self._data)
        plan = make_plan(self._options, self._data)
        self._data.make_sockets()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            loop.add_signal_handler(number, self._on_signal)
        async with self._tasks:
            starting = self._tasks.create_task(self._start_or_fail(plan, left))
            await self._end.wait()
            starting.cancel()
            await asyncio.wait([starting])
            await self._shut_down(plan)
        if self._failure is not None:
            raise self._failure
        return 0

    def _on_signal(self) -> None:
        if not self._end.is_set():
            self._console.say("")
            self._console.say("Stopping Sinas … (again to kill it at once)")
            self._end.set()
            return
        for child in self._children.values():
            child.kill()
        # The state file stays: the next start looks for what this may have left.
        os._exit(130)

    # --- start ---

    async def _start_or_fail(self, plan: Plan, left: list[str] | None) -> None:
        try:
            await self._start(plan, left)
        except* SinasError as errors:
            self._failure = first(errors)
            self._end.set()
        except* OSError as errors:
            self._failure = StartupError(
                "Start",
                f"the system refused ({errors.exceptions[0]}).",
                "Lines above may say why; else check free disk space, memory and open files.",
            )
            self._end.set()

    async def _start(self, plan: Plan, left: list[str] | None) -> None:
        steps = Steps(self._console, 6)
        self._console.strong(f"Starting Sinas in {self._data.root}")
        if left is not None:
            names = ", ".join(left) or "no process"
            self._console.say(f"The last run was killed; cleaned up after it: {names}.")
        database_url, redis_url = plan.settings.database.url, plan.settings.redis.url
        # Both addresses are known before their servers answer, and importing is most of a
        # process's start: so the platform's processes import now and go on when told.
        postgres, redis = self._services(plan)
        plan.env["DATABASE_URL"] = postgres.url if postgres else database_url
        plan.env["REDIS_URL"] = redis.url if redis else redis_url
        if sys.platform == "linux":
            self._nursery = Nursery(plan.env)
            await self._nursery.start()
        migrate = self._child(plan.sinas("migrate", "migrate"))
        async with asyncio.TaskGroup() as group:
            group.create_task(self._redis_step(steps, plan, redis))
            schema = group.create_task(self._schema_steps(steps, plan, postgres, migrate))
            image = group.create_task(self._sandbox_step(steps, plan, clean=left is not None))
            self._prepare_processes(plan)
            await schema
            with steps.step(5, "Processes") as step:
                step.outcome = "started"
                self._release("api", "agents", "scheduler", "cdc")
                await image
                self._release("functions", "model")
        with steps.step(6, "Health") as step:
            step.outcome = "/health answers 200"
            await self._wait_healthy(plan)
        self._write_runtime(plan)
        self._say_ready(plan)

    def _services(self, plan: Plan) -> tuple[EmbeddedPostgres | None, EmbeddedRedis | None]:
        data = self._data
        postgres = redis = None
        if not plan.settings.database.url:
            postgres = EmbeddedPostgres(
                data.postgres, data.sockets / "postgres", data.logs / "postgres.log"
            )
        if not plan.settings.redis.url:
            redis = EmbeddedRedis(data.redis, data.sockets, data.logs / "redis.log")
        return postgres, redis

    async def _redis_step(self, steps: Steps, plan: Plan, redis: EmbeddedRedis | None) -> None:
        with steps.step(2, "Redis") as step:
            if redis is None:
                await check_reachable("Redis", "REDIS_URL", plan.settings.redis.url)
                step.outcome = "REDIS_URL answers"
                return
            redis.prepare()
            await self._run_service("Redis", self._keep(redis.spec()), redis.wait_ready)

    async def _schema_steps(
        self, steps: Steps, plan: Plan, postgres: EmbeddedPostgres | None, migrate: Child
    ) -> None:
        async with asyncio.TaskGroup() as group:
            migrating = group.create_task(migrate.run_once())
            with steps.step(1, "PostgreSQL") as step:
                if postgres is None:
                    url = plan.settings.database.url
                    await check_reachable("PostgreSQL", "DATABASE_URL", url)
                    step.outcome = "DATABASE_URL answers"
                else:
                    await asyncio.to_thread(postgres.prepare, step.note)
                    child = self._keep(postgres.spec())
                    await self._run_service("PostgreSQL", child, postgres.wait_ready)
            with steps.step(3, "Database schema") as step:
                step.outcome = "current"
                migrate.release()
                if await migrating:
                    raise StartupError(
                        "Database schema",
                        f"the migration failed: {migrate.last_line}.",
                        "Nothing was changed by the failed revision; the lines above say more.",
                    )

    async def _sandbox_step(self, steps: Steps, plan: Plan, *, clean: bool) -> None:
        with steps.step(4, "Sandbox") as step:
            if plan.settings.sandbox.backend == "process":
                step.outcome = "process back end (SANDBOX=process)"
                return
            if clean:
                await self._child(plan.sinas("sandbox", "sandbox-clean", waits=False)).run_once()
            image = self._child(plan.sinas("sandbox", "sandbox-image", waits=False))
            if await image.run_once():
                raise StartupError(
                    "Sandbox",
                    f"the executor image could not be made: {image.last_line}.",
                    "Start Docker, or set SANDBOX=auto to fall back to processes.",
                )
            step.outcome = image.last_line

    def _prepare_processes(self, plan: Plan) -> None:
        self._keep(plan.sinas("api", "serve"))
        self._keep(plan.sinas("functions", "worker", "functions"))
        self._keep(plan.sinas("agents", "worker", "agents"))
        self._keep(plan.sinas("scheduler", "scheduler"))
        self._keep(plan.sinas("cdc", "cdc"))
        if plan.local_model_port is not None:
            self._keep(plan.sinas("model", "local-model", "--port", str(plan.local_model_port)))

    async def _run_service(
        self, step: str, child: Child, wait_ready: Callable[[], Awaitable[None]]
    ) -> None:
        try:
            async with asyncio.timeout(_SERVICE_SECONDS), asyncio.TaskGroup() as group:
                watch = group.create_task(self._fail_if_it_dies(step, child, tries=1))
                await wait_ready()
                watch.cancel()
        except TimeoutError:
            raise self._died(step, child, f"was not ready in {_SERVICE_SECONDS:.0f} s") from None

    async def _fail_if_it_dies(self, step: str, child: Child, tries: int) -> None:
        await child.wait_failures(tries)
        raise self._died(step, child, child.last_end)

    def _died(self, step: str, child: Child, how: str) -> StartupError:
        log = child.spec.log
        words = last_lines(log) if log is not None else [child.last_line]
        said = " / ".join(line.strip() for line in words if line.strip())
        where = f"Its log is {log}." if log is not None else "Its lines above say more."
        return StartupError(step, f"{child.spec.name} {how} (last words: {said}).", where)

    async def _wait_healthy(self, plan: Plan) -> None:
        status, body = 0, ""
        try:
            async with asyncio.timeout(_HEALTH_SECONDS), asyncio.TaskGroup() as group:
                watches = [
                    group.create_task(
                        self._fail_if_it_dies("Processes", child, _TRIES_BEFORE_READY)
                    )
                    for name, child in self._children.items()
                    if name in {"api", "functions", "agents", "scheduler", "cdc"}
                ]
                while status != 200:
                    await asyncio.sleep(0.05)
                    status, body = await get(plan.reach_host, plan.options.port, "/health")
                for watch in watches:
                    watch.cancel()
        except TimeoutError:
            raise StartupError(
                "Health",
                explain_health(status, body),
                "The lines of the part it names say why; correct that and start again.",
            ) from None
        if plan.local_model_port is None:
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_MODEL_SECONDS):
                await wait_until_ok("127.0.0.1", plan.local_model_port)

    # --- running ---

    def _child(self, spec: ChildSpec) -> Child:
        # The model's process needs none of what the nursery imports, and is large enough.
        forks = self._nursery is not None and spec.argv[1:3] == ("-m", "sinas")
        nursery = self._nursery if forks and spec.name != "model" else None
        return Child(
            spec,
            launch=spawn if nursery is None else nursery.launch,
            on_line=self._console.child,
            on_event=self._console.child,
            on_change=self._record,
        )

    def _keep(self, spec: ChildSpec) -> Child:
        child = self._child(spec)
        self._children[spec.name] = child
        self._tasks.create_task(child.run())
        return child

    def _release(self, *names: str) -> None:
        for name in names:
            if name in self._children:
                self._children[name].release()

    def _record(self) -> None:
        running = {
            child.pid: child.spec for child in self._children.values() if child.pid is not None
        }
        record(self._data, running)

    def _write_runtime(self, plan: Plan) -> None:
        runtime: Runtime = {
            "pid": os.getpid(),
            "api_url": plan.api_url,
            "database_url": plan.env["DATABASE_URL"],
            "redis_url": plan.env["REDIS_URL"],
            "keys_file": str(self._data.keys_file),
            "instance_id": plan.instance_id,
            "superadmin_email": plan.admin,
        }
        write_private(self._data.runtime_file, runtime)

    def _say_ready(self, plan: Plan) -> None:
        say, url = self._console.say, plan.api_url
        say("")
        self._console.strong("Sinas is ready")
        say(f"  started in     {time.monotonic() - self._began:.1f} s")
        say(f"  API            {url}")
        say(f"  reference      {url}/docs and {url}/api/v1/docs")
        say(f"  administrator  {plan.admin}")
        if not plan.settings.mail.host:
            say("  login codes    printed in this log (SMTP_HOST is not set)")
        if plan.local_model_port is None:
            say(f"  offline model  {plan.local_model_note}")
        else:
            say(f"  offline model  {plan.env['SINAS_LOCAL_MODEL_URL']}")
        where = f" --data-dir {self._data.root}"
        command = _command()
        say("")
        say("Next, in another terminal:")
        say(f"  {command} chat{where}")
        say(f"  {command} api-key create --email {plan.admin} --name first{where}")
        say("")

    # --- end ---

    async def _shut_down(self, plan: Plan) -> None:
        began = time.monotonic()
        with contextlib.suppress(FileNotFoundError):
            self._data.runtime_file.unlink()
        for names, by in _STOP_ORDER:
            if "postgres" in names:
                await self._remove_containers(plan, began + by - 1.5)
            async with asyncio.TaskGroup() as group:
                for child in (self._children[name] for name in names if name in self._children):
                    seconds = began + by - time.monotonic()
                    group.create_task(self._stop(child, seconds))
        if self._nursery is not None:
            await self._nursery.stop()
        self._data.remove_sockets()
        self._data.state_file.unlink(missing_ok=True)
        self._console.say(f"Sinas has stopped ({time.monotonic() - began:.1f} s)")

    async def _stop(self, child: Child, seconds: float) -> None:
        if not await child.stop(seconds):
            self._console.child(child.spec.name, "did not end in time and was killed")

    async def _remove_containers(self, plan: Plan, by: float) -> None:
        if plan.settings.sandbox.backend == "process":
            return
        clean = self._child(plan.sinas("sandbox", "sandbox-clean", waits=False))
        try:
            async with asyncio.timeout(max(by - time.monotonic(), 1.0)):
                await clean.run_once()
        except TimeoutError:
            self._console.child("sandbox", "containers could not be removed in time")


def _command() -> str:
    """How this command line was called, as far as the reader can repeat it."""
    called = Path(sys.argv[0])
    if called.name != "sinas":
        return "python -m sinas"
    here = Path.cwd()
    return str(called.relative_to(here)) if called.is_relative_to(here) else str(called)
