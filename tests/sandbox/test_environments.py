"""Environments on a worker's disk: built from wheels, the same everywhere, kept while used."""

import os
import shutil
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
import pytest_asyncio

from sinas.errors import InvalidInputError, UnavailableError, UpstreamError
from sinas.sandbox import process
from sinas.sandbox.base import Raised, Sandbox
from sinas.sandbox.environments import Environments, LockedEnvironment
from sinas.sandbox.interpreter import Interpreter
from sinas.sandbox.opening import open_sandbox
from tests.sandbox.conftest import OpenSandbox, invocation, settings_for, value_of
from tests.support.wheels import Index


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Index:
    return Index(tmp_path / "index", monkeypatch)


@pytest_asyncio.fixture(scope="module")
async def python(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Sandbox]:
    """Says which Python packages are for; which back end it is of makes no difference."""
    settings = settings_for(tmp_path_factory.mktemp("python"), backend="process")
    sandbox = await open_sandbox(settings, worker_id="tests", progress=print)
    yield sandbox
    await sandbox.aclose()


@pytest.fixture
def make(tmp_path: Path, python: Sandbox) -> "Make":
    return Make(tmp_path, python)


class Make:
    """Environments of several workers, each with a disk of its own."""

    def __init__(self, root: Path, sandbox: Sandbox) -> None:
        self.root = root
        self.sandbox = sandbox

    def __call__(self, name: str = "one", *, seconds: float = 60) -> Environments:
        return Environments(self.path(name), self.sandbox, build_seconds=seconds)

    def path(self, name: str = "one") -> Path:
        return self.root / name


async def never() -> LockedEnvironment:
    raise AssertionError("it is there already")


async def test_the_wanted_packages_and_theirs_are_installed_and_locked(
    index: Index, make: Make
) -> None:
    index.wheel("lower", "1.5")
    index.wheel("Upper_Thing", "2.0", requires=["lower<2"])
    index.wheel("lower", "2.0")
    built = await make().build(["upper-thing==2.0"])
    packages = make.path() / built.id
    assert {"lower.py", "Upper_Thing.py"} <= {path.name for path in packages.iterdir()}
    lines = [line.split(" --hash=sha256:") for line in built.lock.splitlines()]
    assert [name for name, _ in lines] == ["lower==1.5", "upper-thing==2.0"]
    assert all(len(digest) == 64 for _, digest in lines)
    assert str(index.folder) not in built.lock
    assert [path.name for path in make.path().iterdir()] == [built.id]
    for path in (packages, *packages.rglob("*")):
        assert not path.stat().st_mode & 0o222, path
        assert path.stat().st_mode & 0o444 == 0o444, path


async def test_the_same_packages_are_the_same_environment(index: Index, make: Make) -> None:
    index.wheel("thing")
    first = await make().build(["thing"])
    before = (make.path() / first.id).stat().st_ino
    assert await make().build(["thing"]) == first
    assert (make.path() / first.id).stat().st_ino == before
    assert await make("two").build(["thing"]) == first
    index.wheel("thing", "1.1")
    assert (await make().build(["thing"])).id != first.id


@pytest.mark.parametrize(
    ("requirements", "words"),
    [
        (["nothing-like-it"], "No matching distribution found for nothing-like-it"),
        (["thing==9"], "No matching distribution found for thing==9"),
        (["needs-old", "thing==2.0"], "needs-old 1.0 depends on thing<2"),
    ],
)
async def test_what_cannot_be_had_is_told_in_the_words_of_pip(
    index: Index, make: Make, requirements: list[str], words: str
) -> None:
    index.wheel("thing", "1.0")
    index.wheel("thing", "2.0")
    index.wheel("needs_old", requires=["thing<2"])
    with pytest.raises(InvalidInputError) as raised:
        await make().build(requirements)
    assert words in raised.value.message
    assert list(make.path().iterdir()) == []


async def test_no_build_script_runs(index: Index, make: Make, tmp_path: Path) -> None:
    proof = tmp_path / "proof"
    archive = index.source_archive("sourced", proof)
    with pytest.raises(InvalidInputError, match="No matching distribution"):
        await make().build(["sourced"])
    index.wheel("asks", requires=[f"sourced @ {archive.as_uri()}"])
    with pytest.raises(InvalidInputError, match="not a wheel"):
        await make().build(["asks"])
    assert not proof.exists()


async def test_an_index_that_is_not_reached_is_not_the_requests_fault(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    monkeypatch.setenv("PIP_RETRIES", "1")
    with pytest.raises(UpstreamError, match="No matching distribution"):
        await make().build(["thing"])


async def test_pip_has_a_time_limit(index: Index, make: Make) -> None:
    index.wheel("thing")
    with pytest.raises(UpstreamError, match="DEPENDENCY_BUILD_TIMEOUT"):
        await make(seconds=0.01).build(["thing"])
    assert list(make.path().iterdir()) == []


async def test_markers_are_those_of_the_sandbox(
    index: Index, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The sandbox may run another Python than the worker."""
    other = Interpreter(
        abi="cp39",
        machine="x86_64",
        glibc="2.31",
        markers={"python_version": "3.9", "python_full_version": "3.9.1", "sys_platform": "odd"},
    )
    environments = make()
    monkeypatch.setattr(environments, "_interpreter", other)
    index.wheel("backport")
    index.wheel("odd_only")
    requires = ["backport; python_version < '3.10'", "odd-only; sys_platform == 'odd'"]
    index.wheel("thing", requires=requires)
    index.wheel("compiled", tag="cp39-cp39-manylinux_2_17_x86_64")
    index.wheel("compiled", "2.0", tag="cp311-cp311-manylinux_2_17_x86_64")
    built = await environments.build(["thing", "compiled"])
    assert built.python == "cp39-x86_64"
    names = [line.split(" ")[0] for line in built.lock.splitlines()]
    assert names == ["backport==1.0", "compiled==1.0", "odd-only==1.0", "thing==1.0"]
    assert not list((make.path() / built.id).rglob("*.pyc"))


def test_platforms_are_those_the_c_library_takes() -> None:
    new = Interpreter(abi="cp312", machine="x86_64", glibc="2.28", markers={})
    assert new.platforms[0] == "manylinux_2_28_x86_64"
    assert {"manylinux2014_x86_64", "manylinux1_x86_64", "linux_x86_64"} <= set(new.platforms)
    assert "manylinux_2_29_x86_64" not in new.platforms
    arm = Interpreter(abi="cp312", machine="aarch64", glibc="2.36", markers={})
    assert "manylinux_2_17_aarch64" in arm.platforms
    assert "manylinux_2_5_aarch64" not in arm.platforms
    musl = Interpreter(abi="cp312", machine="x86_64", glibc=None, markers={})
    assert musl.platforms[0] == "musllinux_1_2_x86_64"
    assert musl.name != new.name


async def test_another_worker_installs_it_from_the_lock(index: Index, make: Make) -> None:
    index.wheel("thing", "1.0")
    built = await make("one").build(["thing"])
    index.wheel("thing", "2.0")
    loads = []

    async def load() -> LockedEnvironment:
        loads.append(1)
        return built

    second = make("two")
    async with second.held(built.id, load), second.held(built.id, never):
        assert (make.path("two") / built.id / "thing.py").read_text() == "VERSION = '1.0'\n"
    async with second.held(built.id, never):
        assert len(loads) == 1


async def test_a_package_that_changed_since_is_refused(index: Index, make: Make) -> None:
    index.wheel("thing")
    built = await make("one").build(["thing"])
    index.wheel("thing", source="VERSION = 'forged'\n")

    async def load() -> LockedEnvironment:
        return built

    second = make("two")
    with pytest.raises(UnavailableError, match="DO NOT MATCH THE HASHES"):
        async with second.held(built.id, load):
            pytest.fail("it was installed")
    assert list(make.path("two").iterdir()) == []
    with pytest.raises(UnavailableError, match="DO NOT MATCH THE HASHES"):
        async with second.held(built.id, never):  # the next call does not ask pip again at once
            pytest.fail("it was installed")


async def test_one_that_was_built_for_another_python_is_refused(index: Index, make: Make) -> None:
    index.wheel("thing")
    built = replace(await make("one").build(["thing"]), python="cp27-x86_64")

    async def load() -> LockedEnvironment:
        return built

    with pytest.raises(UnavailableError, match="built for cp27-x86_64"):
        async with make("two").held(built.id, load):
            pytest.fail("it was installed")


def age(path: Path) -> None:
    path.chmod(0o755)
    long_ago = time.time() - 90_000
    os.utime(path, (long_ago, long_ago))


async def test_old_ones_go_when_nobody_uses_them(index: Index, make: Make) -> None:
    environments = make()
    versions = ("1.0", "1.1", "1.2", "1.3")
    for version in versions:
        index.wheel("thing", version)
    old, used, young = [await environments.build([f"thing=={version}"]) for version in versions[:3]]
    (make.path() / ".scratch-left").mkdir()
    for name in (old.id, used.id, ".scratch-left"):
        age(make.path() / name)
    async with make().held(used.id, never):  # a call of another worker on the same disk
        new = await environments.build(["thing==1.3"])
        left = {path.name for path in make.path().iterdir()}
        assert left == {used.id, young.id, new.id}
    index.wheel("thing", "1.4")
    await environments.build(["thing==1.4"])
    assert not (make.path() / used.id).exists()


async def test_calls_import_from_the_environment_they_are_given(
    open_pool: OpenSandbox, index: Index, tmp_path: Path
) -> None:
    """In a sandbox that ran before the environment was there."""
    pool = await open_pool()
    code = "def handler(i, c):\n    import thing\n    return [thing.VERSION, thing.__file__]"
    assert isinstance(await pool.run(invocation(code)), Raised)
    directory = settings_for(tmp_path).core.environments_dir
    environments = Environments(directory, pool, build_seconds=60)
    index.wheel("thing", "1.0")
    first = await environments.build(["thing"])
    found, path = value_of(await pool.run(invocation(code, environment=first.id)))
    assert found == "1.0"
    assert first.id in path
    index.wheel("thing", "2.0")
    built = await environments.build(["thing"])
    assert value_of(await pool.run(invocation(code, environment=built.id)))[0] == "2.0"
    write = f"def handler(i, c):\n    open({path!r}, 'a')"
    outcome = await pool.run(invocation(write, environment=built.id))
    assert isinstance(outcome, Raised)
    assert "PermissionError" in outcome.error or "Read-only" in outcome.error
    assert isinstance(await pool.run(invocation(code)), Raised)


async def test_the_weakest_isolation_reads_them_behind_a_private_directory(
    index: Index, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The directory of the data is its owner's alone; calls are somebody else."""
    levels = process._levels
    monkeypatch.setattr(process, "_levels", lambda **given: levels(**given)[-1:])
    if everybodys := shutil.which("python3", path="/usr/bin:/usr/local/bin"):
        # This one may be below root's home, where this level cannot be had.
        monkeypatch.setattr(process, "base_python", lambda: everybodys)
    settings = settings_for(tmp_path / "private", backend="process")
    (tmp_path / "private").mkdir(mode=0o700)
    pool = await open_sandbox(settings, worker_id="tests", progress=print)
    try:
        index.wheel("thing")
        directory = settings.core.environments_dir
        built = await Environments(directory, pool, build_seconds=60).build(["thing"])
        code = "def handler(i, c):\n    import thing\n    return thing.VERSION"
        assert value_of(await pool.run(invocation(code, environment=built.id))) == "1.0"
    finally:
        await pool.aclose()


@pytest.mark.parametrize(
    ("module", "package"),
    [
        ("yaml", "PyYAML"),
        ("PIL.Image", "Pillow"),
        ("psycopg2.extras", "psycopg2-binary"),
        ("pandas", "pandas"),
        ("no_such_thing", "no_such_thing"),
    ],
)
async def test_a_missing_import_names_the_package(
    python: Sandbox, module: str, package: str
) -> None:
    outcome = await python.run(invocation(f"import {module}\ndef handler(i, c): ..."))
    assert isinstance(outcome, Raised)
    assert outcome.error == (
        f"ModuleNotFoundError: No module named '{module.partition('.')[0]}'. The package {package} "
        "is not approved here; an admin can approve it with POST /api/v1/dependencies "
        f'{{"package_name": "{package}"}}.'
    )


@pytest.mark.parametrize(
    "code",
    [
        "import json.nothing",
        "import _nothing",
        "from json import nothing",
        "import google.cloud",
        "raise ModuleNotFoundError('mine')",
        "raise ModuleNotFoundError('mine', name='two words')",
    ],
)
async def test_other_failed_imports_give_no_advice(python: Sandbox, code: str) -> None:
    outcome = await python.run(invocation(f"{code}\ndef handler(i, c): ..."))
    assert isinstance(outcome, Raised)
    assert "approve" not in outcome.error
