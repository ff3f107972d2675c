"""What every back end promises about one call, and about what is left of it."""

import pytest

from sinas.sandbox.base import Crashed, OutOfMemory, Raised, TimedOut
from tests.sandbox.conftest import MEMORY_MB, Run, value_of


class TestReturning:
    async def test_input_and_context_arrive_and_the_value_comes_back(self, run: Run) -> None:
        code = """
            def handler(input_data, context):
                return {"input": input_data, "user": context["user_id"]}
        """
        outcome = await run(code, input={"n": [1, None, "ü"]}, context={"user_id": "u-1"})
        assert value_of(outcome) == {"input": {"n": [1, None, "ü"]}, "user": "u-1"}

    async def test_preset_names(self, run: Run) -> None:
        code = """
            def handler(input_data, context):
                day = datetime.datetime(2026, 1, 2).isoformat()
                return [json.dumps({}), day, str(uuid.UUID(int=1))]
        """
        assert value_of(await run(code)) == [
            "{}",
            "2026-01-02T00:00:00",
            "00000000-0000-0000-0000-000000000001",
        ]

    async def test_async_handler(self, run: Run) -> None:
        code = """
            import asyncio

            async def handler(input_data, context):
                await asyncio.sleep(0)
                return "awaited"
        """
        assert value_of(await run(code)) == "awaited"

    async def test_handler_of_one_argument(self, run: Run) -> None:
        assert value_of(await run("handler = lambda data: data + 1", input=1)) == 2

    async def test_function_named_after_its_resource_is_deprecated(self, run: Run) -> None:
        outcome = await run("def example(input_data, context):\n    return 1")
        assert value_of(outcome) == 1
        assert outcome.deprecation is not None
        assert "handler(input_data, context)" in outcome.deprecation

    async def test_unknown_types_become_text(self, run: Run) -> None:
        code = "def handler(i, c):\n    return {'id': uuid.UUID(int=2), 'at': datetime.date(2026, 1, 1)}"
        assert value_of(await run(code)) == {
            "id": "00000000-0000-0000-0000-000000000002",
            "at": "2026-01-01",
        }

    async def test_dataclasses_with_postponed_annotations(self, run: Run) -> None:
        code = """
            from __future__ import annotations
            import dataclasses, typing

            @dataclasses.dataclass
            class Point:
                x: int
                kind: typing.ClassVar[str] = "point"

            def handler(input_data, context):
                return dataclasses.asdict(Point(1))
        """
        assert value_of(await run(code)) == {"x": 1}

    async def test_what_it_defines_can_be_sent_to_another_process(self, run: Run) -> None:
        code = """
            import multiprocessing, pickle

            class Point:
                x = 3

            def square(x):
                return x * x

            def handler(input_data, context):
                at, way_out = multiprocessing.Pipe(duplex=False)
                worker = multiprocessing.Process(
                    target=lambda: way_out.send([square, Point()])
                )
                worker.start()
                function, point = at.recv()
                worker.join()
                return [function(4), pickle.loads(pickle.dumps(point)).x]
        """
        assert value_of(await run(code)) == [16, 3]

    async def test_large_input_and_result_pass(self, run: Run) -> None:
        text = "x" * 5_000_000
        assert value_of(await run("def handler(i, c):\n    return len(i)", input=text)) == 5_000_000
        assert len(value_of(await run("def handler(i, c):\n    return 'y' * 90000"))) == 90_000


class TestRaising:
    async def test_traceback_has_the_users_frames_only(self, run: Run) -> None:
        code = """
            def parse(text):
                return json.loads(text)

            def handler(input_data, context):
                return parse("{broken")
        """
        outcome = await run(code)
        assert isinstance(outcome, Raised)
        assert outcome.error.startswith("JSONDecodeError: Expecting property name")
        assert 'File "tests/example.py", line 6, in handler' in outcome.traceback
        assert 'return parse("{broken")' in outcome.traceback
        assert "return json.loads(text)" in outcome.traceback
        assert outcome.traceback.count("File ") == 2
        assert "runner" not in outcome.traceback

    async def test_chained_exceptions_are_shown(self, run: Run) -> None:
        code = """
            def handler(input_data, context):
                try:
                    {}["missing"]
                except KeyError as error:
                    raise ValueError("no such thing") from error
        """
        outcome = await run(code)
        assert isinstance(outcome, Raised)
        assert outcome.error == "ValueError: no such thing"
        assert "KeyError: 'missing'" in outcome.traceback

    async def test_syntax_error(self, run: Run) -> None:
        outcome = await run("def handler(:\n    pass")
        assert isinstance(outcome, Raised)
        assert outcome.error.startswith("SyntaxError: ")
        assert 'File "tests/example.py", line 1' in outcome.traceback
        assert "def handler(:" in outcome.traceback

    async def test_no_handler(self, run: Run) -> None:
        outcome = await run("x = 1")
        assert isinstance(outcome, Raised)
        assert outcome.error == (
            "No 'handler' function found in tests/example; define handler(input_data, context)"
        )

    async def test_sys_exit(self, run: Run) -> None:
        outcome = await run("import sys\n\ndef handler(i, c):\n    sys.exit(3)")
        assert isinstance(outcome, Raised)
        assert outcome.error == "SystemExit: 3"

    async def test_input_is_refused(self, run: Run) -> None:
        outcome = await run("def handler(i, c):\n    return input('name?')")
        assert isinstance(outcome, Raised)
        assert outcome.error == (
            "RuntimeError: input() is not available in sandbox containers; "
            "use a shared-pool function"
        )

    async def test_exception_that_cannot_be_printed(self, run: Run) -> None:
        code = """
            class Odd(Exception):
                def __str__(self):
                    raise RuntimeError("no")

            def handler(input_data, context):
                raise Odd
        """
        outcome = await run(code)
        assert isinstance(outcome, Raised)
        assert outcome.error.startswith("Odd")

    @pytest.mark.parametrize(
        ("expression", "message"),
        [
            ("{'a': [1, float('nan')]}", "result.a[1] is nan"),
            ("float('inf')", "result is inf"),
            ("{(1, 2): 3}", "keys must be str"),
            ("'\\ud800'", "not valid Unicode"),
            ("(lambda x: x.append(x) or x)([])", "Circular reference"),
        ],
    )
    async def test_result_that_is_not_json(self, run: Run, expression: str, message: str) -> None:
        outcome = await run(f"def handler(i, c):\n    return {expression}")
        assert isinstance(outcome, Raised)
        assert message in outcome.error

    async def test_result_too_large(self, run: Run) -> None:
        outcome = await run("def handler(i, c):\n    return 'x' * 200_000")
        assert isinstance(outcome, Raised)
        assert "the limit is 100000" in outcome.error


class TestOutput:
    async def test_prints_and_subprocess_output_are_kept(self, run: Run) -> None:
        code = """
            import subprocess, sys

            def handler(input_data, context):
                print("one")
                subprocess.run(["/bin/sh", "-c", "echo two; echo three >&2"], check=True)
                print("four", file=sys.stderr)
        """
        outcome = await run(code)
        assert outcome.stdout == "one\ntwo\n"
        assert outcome.stderr == "three\nfour\n"

    async def test_output_of_failed_calls_is_kept(self, run: Run) -> None:
        outcome = await run("def handler(i, c):\n    print('before')\n    raise ValueError")
        assert (type(outcome), outcome.stdout) == (Raised, "before\n")
        code = "import time\n\ndef handler(i, c):\n    print('before')\n    time.sleep(60)"
        outcome = await run(code, timeout=1)
        assert (type(outcome), outcome.stdout) == (TimedOut, "before\n")

    async def test_endless_output_is_cut_and_harmless(self, run: Run) -> None:
        code = "def handler(i, c):\n    for _ in range(20_000):\n        print('x' * 1000)\n    return 1"
        outcome = await run(code)
        assert value_of(outcome) == 1
        assert outcome.stdout.endswith("\n[output cut at 10000 bytes]")
        assert len(outcome.stdout) < 10_100


class TestEnding:
    async def test_os_exit(self, run: Run) -> None:
        outcome = await run("import os\n\ndef handler(i, c):\n    os._exit(5)")
        assert isinstance(outcome, Crashed)
        assert "code 5" in outcome.reason

    async def test_segmentation_fault(self, run: Run) -> None:
        outcome = await run("import ctypes\n\ndef handler(i, c):\n    ctypes.string_at(0)")
        assert isinstance(outcome, Crashed)
        assert "SIGSEGV" in outcome.reason

    async def test_endless_loop(self, run: Run) -> None:
        outcome = await run("def handler(i, c):\n    return len(str(7 ** (7 ** 9)))", timeout=1)
        assert isinstance(outcome, TimedOut)
        assert outcome.timeout_seconds == 1

    async def test_memory_bomb(self, run: Run) -> None:
        code = """
            def handler(input_data, context):
                held = []
                while True:
                    held.append(bytearray(8 * 1024 * 1024))
        """
        outcome = await run(code)
        assert isinstance(outcome, OutOfMemory), outcome
        assert outcome.limit_mb == MEMORY_MB
        assert value_of(await run("def handler(i, c):\n    return 'alive'")) == "alive"

    async def test_a_fork_that_returns_does_not_answer_twice(self, run: Run) -> None:
        code = """
            import os

            def handler(input_data, context):
                child = os.fork()
                if child:
                    os.waitpid(child, 0)
                return bool(child)
        """
        assert value_of(await run(code)) is True
