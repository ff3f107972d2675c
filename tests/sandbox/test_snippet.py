"""Code that is no function: the value of its last expression, its output, the files it wrote."""

import pytest

from sinas.sandbox.base import Invocation, Outcome, Raised, Returned, WrittenFile
from sinas.sandbox.runner import protocol
from sinas.sandbox.wire import Limits, Output, outcome_of_answer
from tests.sandbox.conftest import OpenSandbox, Run, invocation, value_of

MB = 1024 * 1024


def returned(outcome: Outcome) -> Returned:
    assert isinstance(outcome, Returned), outcome
    return outcome


@pytest.fixture
def run_code(run: Run) -> Run:
    async def run_one(code: str, **fields: object) -> Outcome:
        return await run(code, kind="code", **fields)

    return run_one


@pytest.mark.parametrize(
    ("code", "value"),
    [
        ("1 + 1", 2),
        ("x = 20\ny = 22\nx + y", 42),
        ("x = 1", None),
        ("", None),
        ("print('hello')", None),
        ("'text'", "text"),
        ("{'a': (1, 2), 3: None}", {"a": [1, 2], "3": None}),
        ("{1, 2}", "{1, 2}"),
        ("float('nan')", "nan"),
        ("class A:\n    def __repr__(self): return 'an A'\nA()", "an A"),
        ("a = []\na.append(a)\na", "[[...]]"),
        ("'\\ud800'", "'\\ud800'"),
        ("async def f():\n    return 5\nf()", 5),
        ("done = False\nif __name__ == '__main__':\n    done = True\ndone", True),
        ("import dataclasses\n@dataclasses.dataclass\nclass P:\n    x: int\nP(1)", "P(x=1)"),
        ("def f(n): return n * f(n - 1) if n else 1\nf(5)", 120),
        ("import json as j\nj.dumps(datetime.date(2024, 1, 2).year)", "2024"),
    ],
)
async def test_the_last_expression_is_the_value(run_code: Run, code: str, value: object) -> None:
    assert value_of(await run_code(code)) == value


async def test_output_is_captured(run_code: Run) -> None:
    outcome = returned(await run_code("import sys\nprint('out')\nprint('err', file=sys.stderr)\n7"))
    assert (outcome.stdout, outcome.stderr, outcome.value) == ("out\n", "err\n", 7)


@pytest.mark.parametrize(
    ("code", "error", "line"),
    [
        ("x = 1\nx / 0", "ZeroDivisionError: division by zero", "x / 0"),
        ("def f(:", "SyntaxError: invalid syntax", "def f(:"),
        ("import sys\nsys.exit(3)", "SystemExit: 3", "sys.exit(3)"),
        ("input('name?')", "RuntimeError: input() is not available", "input('name?')"),
    ],
)
async def test_an_error_is_told_with_its_line(
    run_code: Run, code: str, error: str, line: str
) -> None:
    outcome = await run_code(code)
    assert isinstance(outcome, Raised)
    assert outcome.error.startswith(error)
    assert line in outcome.traceback


async def test_written_files_come_along(run_code: Run) -> None:
    outcome = returned(
        await run_code(
            """
            import os
            open('b.bin', 'wb').write(bytes(range(256)) * 100)
            os.makedirs('out/deep')
            with open('out/deep/a.txt', 'w') as file:
                file.write('line\\n')
            open('empty', 'w').close()
            left_open = open('open.txt', 'w')
            left_open.write('unflushed')
            """
        )
    )
    assert outcome.files == (
        WrittenFile(name="b.bin", size_bytes=25_600, content=bytes(range(256)) * 100),
        WrittenFile(name="empty", size_bytes=0, content=b""),
        WrittenFile(name="open.txt", size_bytes=9, content=b"unflushed"),
        WrittenFile(name="out/deep/a.txt", size_bytes=5, content=b"line\n"),
    )


async def test_only_regular_files_that_are_meant_to_be_seen(run_code: Run) -> None:
    outcome = returned(
        await run_code(
            """
            import os, socket
            os.symlink('/etc/passwd', 'link')
            os.symlink('/etc', 'folder')
            os.mkfifo('pipe')
            socket.socket(socket.AF_UNIX).bind('socket')
            os.makedirs('.cache')
            open('.cache/x', 'w').close()
            open('.hidden', 'w').close()
            os.makedirs('__pycache__')
            open('__pycache__/x.pyc', 'w').close()
            open('seen', 'w').close()
            os.chdir('/')
            """
        )
    )
    assert [file.name for file in outcome.files] == ["seen"]


async def test_what_is_too_large_or_too_much_is_named(run_code: Run) -> None:
    outcome = returned(
        await run_code(
            f"""
            for name, size in (('a', 9), ('b', 11), ('c', 9), ('d', 9)):
                with open(name, 'wb') as file:
                    file.truncate(size * {MB})
            """
        )
    )
    kept = {file.name: file.content is not None for file in outcome.files}
    assert kept == {"a": True, "b": False, "c": True, "d": False}
    assert [file.size_bytes for file in outcome.files] == [9 * MB, 11 * MB, 9 * MB, 9 * MB]
    many = returned(await run_code("for n in range(150):\n    open(f'f{n:03}', 'w').write('x')\n"))
    assert [file.content for file in many.files] == [b"x"] * 20 + [None] * 80


async def test_a_pool_of_one_serves_many_in_a_row(open_pool: OpenSandbox) -> None:
    pool = await open_pool(min_size=1, max_size=1, acquire_timeout=10.0)
    for number in range(30):
        code = f"import os\nfiles = os.listdir()\nopen('f', 'w').write('x')\n[{number}, files]"
        assert value_of(await pool.run(invocation(code, kind="code"))) == [number, []]
    assert (len(pool.status().idle), len(pool.status().in_use)) in {(1, 0), (0, 1)}


@pytest.mark.parametrize(
    "answer",
    [
        b'{"kind": "returned", "deprecation": null, "value": 1, "files": [["a", 5, true]]}\nabc',
        b'{"kind": "returned", "deprecation": null, "value": 1, "files": [["a", -1, true]]}\nabc',
        b'{"kind": "returned", "deprecation": null, "value": 1, "files": [["a", "5", true]]}\nabc',
        b'{"kind": "returned", "deprecation": null, "value": 1, "files": [["a"]]}\n',
        b'{"kind": "returned", "deprecation": null, "value": 1, "files": 7}\n',
        b'{"kind": "returned", "deprecation": null, "value": 1, "files": %s}\n'
        % (b"[" + b",".join([b'["a", 0, true]'] * (protocol.MAX_FILES + 1)) + b"]"),
        b'{"kind": "returned", "deprecation": null, "value": 1, "files": [["a", %d, false]]}\n'
        % 2**70,
    ],
)
def test_files_that_a_hostile_answer_promises_are_not_believed(answer: bytes) -> None:
    limits = Limits(result_bytes=1000, output_bytes=1000, memory_mb=64, memory_error_is_limit=False)
    output = Output(stdout="", stderr="", duration_ms=1)
    assert "makes no sense" in str(outcome_of_answer(answer, output, limits))


def test_only_code_has_room_for_files() -> None:
    limits = Limits(result_bytes=1000, output_bytes=1000, memory_mb=64, memory_error_is_limit=False)
    function: Invocation = invocation("")
    code: Invocation = invocation("", kind="code")
    room = limits.answer_bytes(code) - limits.answer_bytes(function)
    assert room == protocol.MAX_FILES_BYTES
