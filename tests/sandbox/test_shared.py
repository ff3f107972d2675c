"""The shared pool: many calls of trusted code in few sandboxes, and `input()`."""

import asyncio
import os
import signal
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from sinas.errors import ConfigurationError, InvalidInputError, UnavailableError
from sinas.sandbox import process
from sinas.sandbox import shared as shared_module
from sinas.sandbox.base import (
    Answer,
    Ask,
    Crashed,
    Outcome,
    OutOfMemory,
    Raised,
    Returned,
    Sandbox,
    TimedOut,
)
from sinas.sandbox.opening import memory_mib, open_sandbox
from tests.sandbox.conftest import OpenSandbox, invocation, settings_for, until, value_of

SLEEP = "import time\n\ndef handler(i, c):\n    time.sleep(i)\n    return i"
ECHO = "def handler(i, c):\n    return i"
ASK = "def handler(i, c):\n    return input('How many?')"


class Questions:
    """Answers `input()` from a script; remembers what was asked."""

    def __init__(self, *answers: str) -> None:
        self.asked: list[str] = []
        self.answers: asyncio.Queue[str] = asyncio.Queue()
        for answer in answers:
            self.answers.put_nowait(answer)

    async def ask(self, prompt: str) -> Answer:
        self.asked.append(prompt)
        return Answer(value=await self.answers.get())


@pytest_asyncio.fixture
async def pool(open_pool: OpenSandbox) -> AsyncIterator[Sandbox]:
    """One shared sandbox."""
    yield await open_pool(shared_workers=1, shared_memory="512m")


async def call(pool: Sandbox, code: str, ask: Ask | None = None, **fields: Any) -> Outcome:
    return await pool.run(invocation(code, shared=True, **fields), ask)


def running(pool: Sandbox) -> int:
    return sum(member.running for member in pool.status().shared)


async def current(pool: Sandbox, count: int) -> list[str]:
    """Names of the sandboxes that take calls, once there are `count` and no others."""

    def names() -> list[str]:
        return [member.name for member in pool.status().shared if member.status == "running"]

    await until(lambda: len(names()) == count == len(pool.status().shared))
    return names()


class TestSideBySide:
    async def test_many_calls_are_in_one_sandbox_at_once(self, pool: Sandbox) -> None:
        # Each waits for the number of all of them to be there: none could end alone.
        together = Questions()
        async with asyncio.TaskGroup() as tasks:
            calls = [tasks.create_task(call(pool, ASK, together.ask)) for _ in range(30)]
            await until(lambda: len(together.asked) == 30)
            assert [member.running for member in pool.status().shared] == [30]
            for number in range(30):
                together.answers.put_nowait(str(number))
        assert sorted(int(value_of(task.result())) for task in calls) == list(range(30))
        await until(lambda: running(pool) == 0)
        assert [member.executions for member in pool.status().shared] == [30]

    async def test_calls_go_round(self, open_pool: OpenSandbox) -> None:
        pool = await open_pool(shared_workers=3)
        await current(pool, 3)
        for _ in range(6):
            value_of(await call(pool, ECHO))
        assert [member.executions for member in pool.status().shared] == [2, 2, 2]

    async def test_clearing_one_call_away_never_hits_the_next(self, pool: Sandbox) -> None:
        async def some() -> list[Outcome]:
            return [await call(pool, ECHO, input=number) for number in range(40)]

        async with asyncio.TaskGroup() as tasks:
            callers = [tasks.create_task(some()) for _ in range(4)]
        outcomes = [one for caller in callers for one in caller.result()]
        assert [one for one in outcomes if not isinstance(one, Returned)] == []

    async def test_concurrent_calls_share_nothing(self, pool: Sandbox) -> None:
        waiting = """
            import os, subprocess, sys

            def handler(input_data, context):
                os.environ["LEAK"] = sys.leak = "leak"
                open("mine", "w").write("private")
                child = subprocess.Popen(["sleep", "300"])
                print("from the first")
                os.setpriority(os.PRIO_PROCESS, 0, 1)
                input(f"{os.getpid()} {child.pid} {os.getcwd()}")
                return [open("mine").read(), child.poll(), os.listdir(".")]
        """
        looking = """
            import os, sys

            def attempt(what, *arguments):
                try:
                    what(*arguments)
                except OSError as error:
                    return type(error).__name__
                return "done"

            def handler(pids, context):
                return {
                    "own": [os.listdir("."), os.environ["HOME"] == os.getcwd()],
                    "leaks": [os.environ.get("LEAK"), getattr(sys, "leak", None)],
                    "file": attempt(open, pids[2] + "/mine"),
                    "kill": [attempt(os.kill, int(pid), 9) for pid in pids[:2]],
                    "memory": attempt(open, f"/proc/{pids[0]}/mem"),
                    "environment": attempt(open, f"/proc/{pids[0]}/environ"),
                }
        """
        questions = Questions()
        async with asyncio.TaskGroup() as tasks:
            first = tasks.create_task(call(pool, waiting, questions.ask))
            await until(lambda: bool(questions.asked))
            other = await call(pool, looking, input=questions.asked[0].split())
            questions.answers.put_nowait("on")
        seen = value_of(other)
        assert seen == {
            "own": [[], True],
            "leaks": [None, None],
            "file": "PermissionError",
            "kill": ["PermissionError", "PermissionError"],
            "memory": "PermissionError",
            "environment": "PermissionError",
        }
        assert other.stdout == ""
        assert value_of(first.result()) == ["private", None, ["mine"]]
        assert first.result().stdout == "from the first\n"

    async def test_nothing_of_a_call_survives_it_while_others_go_on(self, pool: Sandbox) -> None:
        leaving = """
            import os, subprocess

            def handler(input_data, context):
                open("/tmp/left", "w").close()
                os.makedirs("/tmp/deep/er")
                open("/dev/shm/left", "w").close()
                child = subprocess.Popen(["sleep", "300"], start_new_session=True)
                return child.pid
        """
        looking = """
            import os

            def handler(pid, context):
                home = os.path.basename(os.getcwd())
                return [os.listdir("/dev/shm"), [n for n in os.listdir("/tmp") if n[:4] != "call"],
                        os.path.exists(f"/proc/{pid}")]
        """
        questions = Questions("on")
        async with asyncio.TaskGroup() as tasks:
            beside = tasks.create_task(call(pool, SLEEP, input=3))
            await until(lambda: running(pool) == 1)
            pid = value_of(await call(pool, leaving))
            await until(lambda: running(pool) == 1)
            found = value_of(await call(pool, looking, questions.ask, input=pid))
            assert not beside.done()
        assert found == [[], [], False]
        assert value_of(beside.result()) == 3

    async def test_code_of_a_sandbox_call_still_cannot_ask(self, pool: Sandbox) -> None:
        questions = Questions("42")
        outcome = await pool.run(invocation(ASK), questions.ask)
        assert isinstance(outcome, Raised)
        assert outcome.error == (
            "RuntimeError: input() is not available in sandbox containers; "
            "use a shared-pool function"
        )


class TestOneEndsBadly:
    """Whatever becomes of one call, another in the same sandbox goes on."""

    async def beside(self, pool: Sandbox, code: str, **fields: Any) -> Outcome:
        questions = Questions()
        async with asyncio.TaskGroup() as tasks:
            other = tasks.create_task(call(pool, ASK, questions.ask))
            await until(lambda: bool(questions.asked))
            names = [member.name for member in pool.status().shared]
            outcome = await call(pool, code, **fields)
            await until(lambda: running(pool) == 1)
            assert [member.name for member in pool.status().shared] == names
            questions.answers.put_nowait("still here")
        assert value_of(other.result()) == "still here"
        return outcome

    async def test_timing_out(self, pool: Sandbox) -> None:
        outcome = await self.beside(pool, SLEEP, input=60, timeout=0.5)
        assert isinstance(outcome, TimedOut)
        assert outcome.timeout_seconds == 0.5

    async def test_ending_its_process(self, pool: Sandbox) -> None:
        outcome = await self.beside(pool, "import os\n\ndef handler(i, c):\n    os._exit(3)")
        assert isinstance(outcome, Crashed)
        assert "exited with code 3" in outcome.reason

    async def test_taking_all_memory(self, pool: Sandbox) -> None:
        hog = "def handler(i, c):\n    kept = []\n    while True: kept.append(bytearray(1 << 23))"
        outcome = await self.beside(pool, hog)
        assert outcome == OutOfMemory(
            limit_mb=512, stderr=outcome.stderr, duration_ms=outcome.duration_ms
        )

    async def test_starting_processes_without_end(self, pool: Sandbox) -> None:
        many = """
            import subprocess

            def handler(input_data, context):
                try:
                    for _ in range(500):
                        subprocess.Popen(["sleep", "300"])
                except BlockingIOError:
                    return "refused"
        """
        assert value_of(await self.beside(pool, many, timeout=60)) == "refused"

    async def test_being_cancelled(self, pool: Sandbox) -> None:
        questions = Questions()
        async with asyncio.TaskGroup() as tasks:
            other = tasks.create_task(call(pool, ASK, questions.ask))
            cancelled = tasks.create_task(call(pool, SLEEP, input=300, timeout=300))
            await until(lambda: running(pool) == 2 and bool(questions.asked))
            cancelled.cancel()
            await until(lambda: running(pool) == 1)
            questions.answers.put_nowait("on")
        assert value_of(other.result()) == "on"


class TestInput:
    async def test_several_questions_one_after_the_other(self, pool: Sandbox) -> None:
        code = """
            def handler(input_data, context):
                first = input("First?")
                second = input()
                return [first, second, input(3)]
        """
        questions = Questions("eins", "", "drei 🦔")
        outcome = await call(pool, code, questions.ask)
        assert value_of(outcome) == ["eins", "", "drei 🦔"]
        assert questions.asked == ["First?", "", "3"]

    async def test_the_time_limit_stands_still_while_it_waits(self, pool: Sandbox) -> None:
        code = """
            import time

            def handler(input_data, context):
                time.sleep(0.3)
                answer = input("?")
                if answer == "hang":
                    time.sleep(60)
                return answer
        """
        for answer, kind in (("hang", TimedOut), ("go", None)):
            questions = Questions()
            async with asyncio.TaskGroup() as tasks:
                paused = tasks.create_task(call(pool, code, questions.ask, timeout=1.0))
                await until(lambda asked=questions.asked: bool(asked))  # type: ignore[misc]
                done, _ = await asyncio.wait({paused}, timeout=1.5)
                assert not done
                questions.answers.put_nowait(answer)
            outcome = paused.result()
            assert outcome.duration_ms < 1500
            if kind is None:
                assert value_of(outcome) == "go"
            else:
                assert isinstance(outcome, kind)

    async def test_no_answer_is_a_timeout_inside_the_code(self, pool: Sandbox) -> None:
        async def never(prompt: str) -> Answer:
            raise TimeoutError(f"{prompt} was not answered")

        code = """
            def handler(input_data, context):
                try:
                    input("It")
                except TimeoutError as error:
                    return str(error)
        """
        assert value_of(await call(pool, code, never)) == "It was not answered"

    async def test_an_answer_may_bring_a_new_access_token(self, pool: Sandbox) -> None:
        async def renew(_: str) -> Answer:
            return Answer(value="yes", access_token="second")

        code = """
            def handler(input_data, context):
                return [context["access_token"], input("?"), context["access_token"]]
        """
        outcome = await call(pool, code, renew, context={"access_token": "first"})
        assert value_of(outcome) == ["first", "yes", "second"]

    async def test_threads_may_ask(self, pool: Sandbox) -> None:
        code = """
            from concurrent.futures import ThreadPoolExecutor

            def handler(input_data, context):
                with ThreadPoolExecutor() as threads:
                    return sorted(threads.map(input, ["a", "b", "c"]))
        """
        questions = Questions("1", "2", "3")
        assert value_of(await call(pool, code, questions.ask)) == ["1", "2", "3"]
        assert sorted(questions.asked) == ["a", "b", "c"]

    async def test_an_answer_while_a_thread_still_asks_ends_the_call(self, pool: Sandbox) -> None:
        code = """
            import threading, time

            def handler(input_data, context):
                threading.Thread(target=input, args=["?"], daemon=True).start()
                time.sleep(1)
                return "done"
        """
        questions = Questions()
        assert value_of(await call(pool, code, questions.ask)) == "done"
        assert questions.asked == ["?"]
        await until(lambda: running(pool) == 0)

    async def test_a_forked_process_may_not_ask(self, pool: Sandbox) -> None:
        code = """
            import os

            def handler(input_data, context):
                pid = os.fork()
                if pid == 0:
                    try:
                        input("?")
                    except RuntimeError:
                        os._exit(7)
                return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        """
        questions = Questions()
        assert value_of(await call(pool, code, questions.ask)) == 7
        assert questions.asked == []

    async def test_a_fault_of_whoever_answers_kills_the_call(self, pool: Sandbox) -> None:
        async def broken(_: str) -> Answer:
            raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            await call(pool, ASK, broken)
        await until(lambda: running(pool) == 0)

    async def test_forged_questions_are_only_its_own(self, pool: Sandbox) -> None:
        forged = """
            import os, struct

            def handler(input_data, context):
                os.write(3, struct.pack("!BI", 1, 1) + b"?" + struct.pack("!BI", 1, 1) + b"?")
        """
        outcome = await call(pool, forged, Questions().ask)
        assert "makes no sense" in getattr(outcome, "reason", ""), outcome
        huge = "import os, struct\n\ndef handler(i, c):\n    os.write(3, struct.pack('!BI', 1, 1 << 30))"
        outcome = await call(pool, huge, Questions().ask)
        assert "makes no sense" in getattr(outcome, "reason", ""), outcome


class TestMembers:
    async def test_a_lost_sandbox_fails_its_calls_and_is_replaced(
        self, pool: Sandbox, backend: str
    ) -> None:
        questions = Questions()
        async with asyncio.TaskGroup() as tasks:
            paused = tasks.create_task(call(pool, ASK, questions.ask))
            busy = tasks.create_task(call(pool, SLEEP, input=300, timeout=300))
            await until(lambda: running(pool) == 2 and bool(questions.asked))
            (lost,) = await current(pool, 1)
            await asyncio.to_thread(_kill, pool, backend, lost)
        for outcome in (paused.result(), busy.result()):
            assert isinstance(outcome, Crashed)
            assert "The sandbox was lost during the call" in outcome.reason
        assert value_of(await call(pool, ECHO, input=1)) == 1
        assert await current(pool, 1) != [lost]

    async def test_scaling_down_keeps_what_waits_for_input(self, pool: Sandbox) -> None:
        await current(pool, 1)
        assert (await pool.scale_shared(3)).added == 2
        names = await current(pool, 3)
        questions = Questions()
        async with asyncio.TaskGroup() as tasks:
            paused = tasks.create_task(call(pool, ASK, questions.ask))
            await until(lambda: bool(questions.asked))
            scaled = await pool.scale_shared(0)
            assert (scaled.previous, scaled.current, scaled.removed) == (3, 0, 3)
            (left,) = pool.status().shared
            assert (left.status, left.running) == ("retiring", 1)
            assert left.name in names
            with pytest.raises(UnavailableError, match=r"POST /api/v1/workers/scale"):
                await call(pool, ECHO)
            questions.answers.put_nowait("on")
        assert value_of(paused.result()) == "on"
        await current(pool, 0)
        assert (await pool.scale_shared(1)).current == 1
        assert value_of(await call(pool, ECHO, input=1)) == 1

    async def test_scaling_beyond_reason_is_refused(self, pool: Sandbox) -> None:
        for target in (-1, 11):
            with pytest.raises(InvalidInputError, match="0 to 10"):
                await pool.scale_shared(target)
        for target in (-1, 5):
            with pytest.raises(InvalidInputError, match="0 to 4"):
                await pool.scale_sandboxes(target)

    async def test_reloading_replaces_all_but_what_runs(self, pool: Sandbox) -> None:
        (old,) = await current(pool, 1)
        questions = Questions()
        async with asyncio.TaskGroup() as tasks:
            paused = tasks.create_task(call(pool, ASK, questions.ask))
            await until(lambda: bool(questions.asked))
            reloaded = await pool.reload_shared()
            assert (reloaded.replaced, reloaded.failed) == (1, 0)
            statuses = {member.name: member.status for member in pool.status().shared}
            assert statuses.pop(old) == "retiring"
            assert list(statuses.values()) == ["running"]
            assert value_of(await call(pool, ECHO, input=1)) == 1
            questions.answers.put_nowait("on")
        assert value_of(paused.result()) == "on"
        assert await current(pool, 1) == list(statuses)

    async def test_a_used_up_sandbox_is_replaced(self, open_pool: OpenSandbox) -> None:
        pool = await open_pool(shared_workers=1, max_executions=2)
        names = set()
        for number in range(5):
            names.update(await current(pool, 1))
            assert value_of(await call(pool, ECHO, input=number)) == number
            await until(lambda: running(pool) == 0)
        assert len(names) == 3

    async def test_a_full_pool_is_unavailable(
        self, open_pool: OpenSandbox, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(shared_module, "_MOST_CALLS", 1)
        pool = await open_pool(shared_workers=1, acquire_timeout=1.0)
        await current(pool, 1)
        questions = Questions()
        async with asyncio.TaskGroup() as tasks:
            paused = tasks.create_task(call(pool, ASK, questions.ask))
            await until(lambda: bool(questions.asked))
            with pytest.raises(UnavailableError, match=r"No shared container took the call"):
                await call(pool, ECHO)
            questions.answers.put_nowait("on")
        assert value_of(paused.result()) == "on"

    async def test_closing_ends_what_runs(self, open_pool: OpenSandbox) -> None:
        pool = await open_pool(shared_workers=1)
        questions = Questions()
        async with asyncio.TaskGroup() as tasks:
            paused = tasks.create_task(call(pool, ASK, questions.ask))
            await until(lambda: bool(questions.asked))
            await pool.aclose()
        assert isinstance(paused.result(), Crashed)
        with pytest.raises(UnavailableError, match="not running"):
            await call(pool, ECHO)


class TestSandboxes:
    async def test_scaling(self, open_pool: OpenSandbox) -> None:
        pool = await open_pool(max_size=4)
        scaled = await pool.scale_sandboxes(3)
        assert (scaled.previous, scaled.current, scaled.added) == (1, 3, 2)
        assert len(pool.status().idle) == 3
        scaled = await pool.scale_sandboxes(1)
        assert (scaled.previous, scaled.current, scaled.removed) == (3, 1, 2)
        assert value_of(await pool.run(invocation(ECHO, input=1))) == 1

    async def test_reloading(self, open_pool: OpenSandbox) -> None:
        pool = await open_pool(min_size=2)
        async with asyncio.TaskGroup() as tasks:
            busy = tasks.create_task(pool.run(invocation(SLEEP, input=2)))
            await until(lambda: len(pool.status().in_use) == 1)
            old = {member.name for member in (*pool.status().idle, *pool.status().in_use)}
            reloaded = await pool.reload_sandboxes()
            assert (reloaded.replaced, reloaded.failed, reloaded.errors) == (1, 0, ())
            assert not old & {member.name for member in pool.status().idle}
        assert value_of(busy.result()) == 2
        await until(lambda: len(pool.status().idle) == 2 and not pool.status().in_use)
        assert not old & {member.name for member in pool.status().idle}

    async def test_calls_made_by_code_get_a_sandbox_beyond_the_maximum(
        self, backend: str, tmp_path: Path
    ) -> None:
        settings = settings_for(tmp_path, backend=backend, max_size=1, acquire_timeout=20.0)
        pool = await open_sandbox(settings, worker_id="tests", progress=print, most=2)
        try:
            async with asyncio.TaskGroup() as tasks:
                caller = tasks.create_task(pool.run(invocation(SLEEP, input=300, timeout=300)))
                other = tasks.create_task(pool.run(invocation(ECHO, input="other")))
                await until(lambda: len(pool.status().in_use) == 1)
                nested = await pool.run(invocation(ECHO, input="nested", nested=True))
                assert value_of(nested) == "nested"
                caller.cancel()
            assert value_of(other.result()) == "other"
        finally:
            await pool.aclose()


@pytest.mark.parametrize("namespaces", [True, False])
async def test_weaker_isolation_still_tells_calls_apart_when_they_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, namespaces: bool
) -> None:
    level = process._Level(namespaces=namespaces, users=False, egress="network")
    monkeypatch.setattr(process, "_levels", lambda **_: (level,))
    # A daemon, as far from its call as it can get.
    daemon = """
        import os, time

        def handler(input_data, context):
            read, write = os.pipe()
            if os.fork() == 0:
                os.setsid()
                if os.fork() == 0:
                    os.write(write, str(os.getpid()).encode())
                    time.sleep(300)
                os._exit(0)
            pid = int(os.read(read, 20))
            open("left", "w").close()
            if input_data:
                input(f"{pid}")
            return [pid, os.path.exists(f"/proc/{pid}"), os.getcwd()]
    """
    looking = """
        import os

        def handler(input_data, context):
            return [os.path.exists(f"/proc/{pid}") for pid in input_data[0]] + [
                os.path.exists(input_data[1])
            ]
    """
    settings = settings_for(tmp_path, backend="process", shared_workers=1, pids=0)
    pool = await open_sandbox(settings, worker_id="tests", progress=print)
    questions = Questions()
    try:
        async with asyncio.TaskGroup() as tasks:
            paused = tasks.create_task(call(pool, daemon, questions.ask, input=True))
            await until(lambda: bool(questions.asked))
            ended, alive, home = value_of(await call(pool, daemon))
            assert alive
            await until(lambda: running(pool) == 1)
            pids = [int(questions.asked[0]), ended]
            assert value_of(await call(pool, looking, input=[pids, home])) == [True, False, False]
            questions.answers.put_nowait("on")
        assert value_of(paused.result())[1]
        await until(lambda: running(pool) == 0)
        assert value_of(await call(pool, looking, input=[pids, home])) == [False, False, False]
    finally:
        await pool.aclose()


@pytest.mark.parametrize(
    ("text", "size"), [("1g", 1024), ("512m", 512), ("1048576k", 1024), ("134217728", 128)]
)
def test_memory_of_shared_containers(text: str, size: int) -> None:
    assert memory_mib(text) == size


@pytest.mark.parametrize("text", ["", "much", "1t", "-1g", "10m"])
def test_memory_that_says_nothing_is_a_configuration_error(text: str) -> None:
    with pytest.raises(ConfigurationError, match="WORKER_MEMORY_LIMIT"):
        memory_mib(text)


def _kill(pool: Sandbox, backend: str, name: str) -> None:
    """End the sandbox from outside, as an engine or an operator would."""
    if backend == "docker":
        subprocess.run(["docker", "kill", name], check=True, capture_output=True)
        return
    workers = pool._shared._workers  # type: ignore[attr-defined]
    (member,) = [worker.member for worker in workers if worker.member.name == name]
    os.killpg(member._process.pid, signal.SIGKILL)  # the session the runner leads
