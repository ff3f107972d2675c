"""What a call cannot see, keep or forge, in every back end."""

import asyncio
import os
from collections.abc import AsyncIterator
from typing import Any

import pytest_asyncio

from sinas.sandbox.base import Raised, Sandbox
from tests.sandbox.conftest import OpenSandbox, Run, invocation, value_of


@pytest_asyncio.fixture
async def single(open_pool: OpenSandbox) -> Sandbox:
    """A pool of exactly one sandbox, so that two calls share it."""
    return await open_pool(min_size=1, max_size=1)


class TestNothingSurvives:
    async def test_files(self, single: Sandbox) -> None:
        leave = """
            import os, pathlib

            def handler(input_data, context):
                deep = pathlib.Path("/tmp/a/b")
                deep.mkdir(parents=True)
                (deep / "secret").write_text("1")
                deep.chmod(0)
                pathlib.Path("here").write_text("2")
                pathlib.Path("/dev/shm/shared").write_text("3")
                os.symlink("/", "/tmp/link")
                return os.getcwd()
        """
        look = """
            import os

            def handler(input_data, context):
                return [os.listdir("/tmp"), os.listdir("/dev/shm"), os.listdir(".")]
        """
        assert value_of(await single.run(invocation(leave)))
        assert value_of(await single.run(invocation(look))) == [[], [], []]
        (member,) = (*single.status().idle, *single.status().in_use)
        assert member.executions == 2  # it was the same sandbox

    async def test_processes(self, single: Sandbox) -> None:
        leave = """
            import os, subprocess, time

            def handler(input_data, context):
                if os.fork() == 0:
                    os.setsid()
                    if os.fork() == 0:
                        time.sleep(600)
                    os._exit(0)
                subprocess.Popen(["/bin/sleep", "600"], start_new_session=True)
                return os.getuid()
        """
        count = """
            import os, pathlib

            def handler(input_data, context):
                commands = []
                for pid in filter(str.isdecimal, os.listdir("/proc")):
                    try:
                        commands.append(pathlib.Path(f"/proc/{pid}/cmdline").read_text())
                    except OSError:
                        pass
                return [os.getuid(), sum("sleep" in one for one in commands), len(commands)]
        """
        first_uid = value_of(await single.run(invocation(leave)))
        uid, sleeping, processes = value_of(await single.run(invocation(count)))
        assert sleeping == 0
        assert processes <= 3  # the warm parent, its relay, the call
        assert uid != first_uid

    async def test_modules(self, single: Sandbox) -> None:
        change = "import json as j\nx = 1\n\ndef handler(i, c):\n    j.poisoned = True"
        look = "def handler(i, c):\n    return [hasattr(json, 'poisoned'), 'x' in globals()]"
        await single.run(invocation(change))
        assert value_of(await single.run(invocation(look))) == [False, False]

    async def test_memory_of_earlier_calls(self, single: Sandbox) -> None:
        token = f"token-{os.urandom(8).hex()}"
        search = """
            def handler(input_data, context):
                wanted = bytes.fromhex(input_data)
                found = 0
                with open("/proc/self/maps") as maps, open("/proc/self/mem", "rb") as memory:
                    for row in maps:
                        span, rights = row.split()[:2]
                        if "rw" not in rights:
                            continue
                        start, end = (int(part, 16) for part in span.split("-"))
                        try:
                            memory.seek(start)
                            found += wanted in memory.read(end - start)
                        except (OSError, OverflowError):
                            pass
                return found
        """
        keep = "held = None\n\ndef handler(i, c):\n    print(c['access_token'])\n    return c"
        outcome = await single.run(invocation(keep, context={"access_token": token}))
        assert token in outcome.stdout
        # Reversed, so that the search does not find its own input.
        half = token.encode()[3:].hex()
        code = search.replace("bytes.fromhex(input_data)", "bytes.fromhex(input_data[::-1])")
        assert value_of(await single.run(invocation(code, input=half[::-1]))) <= 1

    async def test_system_v_shared_memory_is_refused(self, single: Sandbox) -> None:
        code = """
            import ctypes

            def handler(input_data, context):
                return ctypes.CDLL(None).shmget(4711, 4096, 0o1666)
        """
        assert value_of(await single.run(invocation(code))) == -1


class TestOutOfReach:
    async def test_the_runner(self, run: Run) -> None:
        code = """
            import os

            def attempt(action):
                try:
                    action()
                except OSError as error:
                    return type(error).__name__
                return "allowed"

            def handler(input_data, context):
                return [
                    attempt(lambda: open("/proc/1/mem", "rb")),
                    attempt(lambda: open("/proc/1/environ", "rb").read()),
                    attempt(lambda: os.listdir("/proc/1/fd")),
                    attempt(lambda: os.kill(1, 9)),
                ]
        """
        assert value_of(await run(code)) == ["PermissionError"] * 4

    async def test_descriptors_and_environment(self, run: Run) -> None:
        code = """
            import os, stat

            def handler(input_data, context):
                listing = [int(name) for name in os.listdir("/proc/self/fd")]
                kinds = {}
                for number in listing:
                    try:
                        mode = os.fstat(number).st_mode
                    except OSError:
                        continue  # the listing's own
                    kinds[str(number)] = "socket" if stat.S_ISSOCK(mode) else "other"
                return [kinds, sorted(os.environ)]
        """
        os.environ["SINAS_TEST_SECRET"] = "1"  # noqa: TID251 - what must not be passed on
        kinds, names = value_of(await run(code))
        # Its own data socket, which carries its own answer, and nothing else of the runner's.
        assert [number for number, kind in kinds.items() if kind == "socket"] == ["3"]
        assert set(kinds) <= {"0", "1", "2", "3"}
        assert set(names) == {
            "HOME",
            "LANG",
            "PATH",
            "PYTHONDONTWRITEBYTECODE",
            "PYTHONUNBUFFERED",
            "PYTHONUTF8",
            "SINAS_API_URL",
            "TMPDIR",
            *(f"{kind}_PROXY" for kind in ("ALL", "HTTP", "HTTPS", "NO")),
            *(f"{kind}_proxy" for kind in ("all", "http", "https", "no")),
        }

    async def test_the_platform_and_its_libraries(self, run: Run) -> None:
        for module in ("sinas", "litellm", "runner", "structlog"):
            outcome = await run(f"def handler(i, c):\n    import {module}.settings")
            assert isinstance(outcome, Raised), module
            assert outcome.error.startswith("ModuleNotFoundError"), module

    async def test_more_rights(self, run: Run) -> None:
        code = """
            import os, pathlib

            def handler(input_data, context):
                status = pathlib.Path("/proc/self/status").read_text()
                fields = dict(row.split(":\\t", 1) for row in status.splitlines() if ":\\t" in row)
                refused = 0
                for action in (lambda: os.setuid(0), lambda: open("/usr/x", "w"), lambda: os.chroot("/tmp")):
                    try:
                        action()
                    except OSError:
                        refused += 1
                return [os.getuid() != 0, fields["NoNewPrivs"], int(fields["CapEff"], 16), refused]
        """
        assert value_of(await run(code)) == [True, "1", 0, 3]

    async def test_the_data_directory(self, open_pool: OpenSandbox, tmp_path: Any) -> None:
        (tmp_path / "key").write_text("secret")
        pool = await open_pool()
        code = "def handler(i, c):\n    return open(i).read()"
        outcome = await pool.run(invocation(code, input=str(tmp_path / "key")))
        assert isinstance(outcome, Raised)

    async def test_a_forged_answer_is_only_its_own(self, run: Run) -> None:
        forged = """
            import json, os, struct

            def handler(input_data, context):
                os.write(3, struct.pack("!BI", 0, 7) + b"rubbish")
                return 1
        """
        outcome = await run(forged)
        assert "makes no sense" in getattr(outcome, "reason", ""), outcome
        huge = "import os\n\ndef handler(i, c):\n    os.write(3, b'\\xff' * 100_000)"
        outcome = await run(huge)
        assert "makes no sense" in getattr(outcome, "reason", ""), outcome


class TestCallingBack:
    @pytest_asyncio.fixture
    async def api(self) -> AsyncIterator[tuple[int, list[bytes]]]:
        """A server on this machine's loopback that answers with what it was asked."""
        requests: list[bytes] = []

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            head = await reader.readuntil(b"\r\n\r\n")
            requests.append(head)
            body = head.split()[1]
            writer.write(b"HTTP/1.0 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
            await writer.drain()
            writer.close()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        yield server.sockets[0].getsockname()[1], requests
        server.close()
        await server.wait_closed()

    async def test_environment_and_context_lead_to_the_api(
        self, open_pool: OpenSandbox, api: tuple[int, list[bytes]]
    ) -> None:
        port, requests = api
        pool = await open_pool(core={"internal_api_url": f"http://127.0.0.1:{port}/base"})
        code = """
            import os, urllib.request

            def handler(input_data, context):
                assert context["api_url"] == os.environ["SINAS_API_URL"]
                headers = {"Authorization": "Bearer " + context["access_token"]}
                url = os.environ["SINAS_API_URL"] + "/functions"
                answers = []
                for _ in range(3):
                    request = urllib.request.Request(url, headers=headers)
                    answers.append(urllib.request.urlopen(request, timeout=10).read().decode())
                return answers
        """
        outcome = await pool.run(invocation(code, context={"access_token": "t-1"}))
        assert value_of(outcome) == ["/base/functions"] * 3
        assert b"Authorization: Bearer t-1" in requests[0]
