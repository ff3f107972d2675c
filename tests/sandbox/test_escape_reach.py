"""The escape suite, second part: what a hostile call tries to reach outside itself."""

import asyncio
import socket
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import psutil
import pytest
import pytest_asyncio

from sinas.egress.policy import Address, look_up
from sinas.sandbox import egress
from sinas.sandbox.base import Sandbox
from sinas.sandbox.opening import open_sandbox
from sinas.settings import DatabaseSettings, RedisSettings
from tests.sandbox.conftest import invocation, require_containment, settings_for, value_of

REPOSITORY = Path(__file__).resolve().parents[2]
HOME = Path.home()
ETC = Path("/etc").stat()
PRESSURE = {f"/proc/pressure/{one}" for one in ("cpu", "io", "irq", "memory")}


async def resolve(host: str, executor: Any = None) -> list[Address]:
    """The system's resolver, with names that lead back to this machine."""
    if host in {"store.test", "rebound.test"}:
        return [ip_address("127.0.0.1")]
    return await look_up(host, executor)


@dataclass
class Host:
    """A sandbox, and what of its machine it must not reach."""

    sandbox: Sandbox
    data_dir: Path
    stores: dict[str, int]
    reached: list[str] = field(default_factory=list)

    async def run(self, code: str, given: Any = None) -> Any:
        return value_of(await self.sandbox.run(invocation(code, input=given)))


@pytest_asyncio.fixture(scope="module")
async def host(backend: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Host]:
    """Its stores listen on the one private address that egress is allowed to."""
    reached: list[str] = []
    servers = []
    for name in ("postgresql", "redis"):

        async def serve(
            _: asyncio.StreamReader, writer: asyncio.StreamWriter, name: str = name
        ) -> None:
            reached.append(name)
            writer.write(b"reached")
            writer.close()

        servers.append(await asyncio.start_server(serve, "127.0.0.1", 0))
    postgresql, redis = (server.sockets[0].getsockname()[1] for server in servers)
    data_dir = tmp_path_factory.mktemp(backend)
    (data_dir / "key").write_text("secret")
    settings = replace(
        settings_for(data_dir, backend=backend, egress_allow="127.0.0.1"),
        database=DatabaseSettings(url=f"postgresql://sinas:secret@store.test:{postgresql}/sinas"),
        redis=RedisSettings(url=f"redis://127.0.0.1:{redis}/0"),
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(egress, "look_up", resolve)
        opened = await open_sandbox(settings, worker_id="tests", progress=print)
    require_containment(opened)
    yield Host(opened, data_dir, {"postgresql": postgresql, "redis": redis}, reached)
    await opened.aclose()
    for server in servers:
        server.close()


class TestProcesses:
    async def test_no_other_can_be_signalled_read_or_traced(self, host: Host) -> None:
        code = """
            import ctypes, os

            libc = ctypes.CDLL(None, use_errno=True)
            PTRACE_ATTACH, PTRACE_SEIZE = 16, 0x4206

            def attempt(action):
                try:
                    result = action()
                except OSError as error:
                    return type(error).__name__
                return "allowed" if result != -1 else os.strerror(ctypes.get_errno())

            def read_memory(pid):
                target = ctypes.create_string_buffer(8)
                vector = (ctypes.c_size_t * 2)(ctypes.addressof(target), 8)
                remote = (ctypes.c_size_t * 2)(id(target), 8)
                return libc.process_vm_readv(pid, vector, 1, remote, 1, 0)

            def handler(input_data, context):
                found = {}
                for pid in map(int, filter(str.isdecimal, os.listdir("/proc"))):
                    if pid == os.getpid():
                        continue
                    for number in (1, 9, 15, 19):
                        found.setdefault(attempt(lambda: os.kill(pid, number)), "signals")
                    for name in ("environ", "mem", "maps", "stack", "syscall", "fd/0", "root/etc"):
                        found.setdefault(attempt(lambda: open(f"/proc/{pid}/{name}", "rb").read(1)), name)
                    for place in ("oom_score_adj", "mem", "clear_refs"):
                        found.setdefault(attempt(lambda: open(f"/proc/{pid}/{place}", "wb").write(b"0")), place)
                    for folder in ("fd", "cwd", "root", "map_files"):
                        found.setdefault(attempt(lambda: os.listdir(f"/proc/{pid}/{folder}")), folder)
                    for request in (PTRACE_ATTACH, PTRACE_SEIZE):
                        found.setdefault(attempt(lambda: libc.ptrace(request, pid, 0, 0)), request)
                    found.setdefault(attempt(lambda: read_memory(pid)), "process_vm_readv")
                    found.setdefault(attempt(lambda: os.sched_setaffinity(pid, {0})), "affinity")
                    found.setdefault(attempt(lambda: os.setpriority(os.PRIO_PROCESS, pid, 19)), "priority")
                return found
        """
        found = await host.run(code)
        refusals = {
            "PermissionError",
            "ProcessLookupError",
            "Operation not permitted",
            "No such process",
        }
        if "the platform's own user" in host.sandbox.status().boundary:
            # Signals reach the relay, which starts anew after the call, but not the warm parent.
            assert found.pop("allowed", "signals") == "signals"
        assert set(found) <= refusals, found

    async def test_arguments_of_the_runner_hold_no_secrets(self, host: Host) -> None:
        code = """
            import os

            def handler(input_data, context):
                pids = filter(str.isdecimal, os.listdir("/proc"))
                return [open(f"/proc/{pid}/cmdline").read() for pid in pids]
        """
        text = str(await host.run(code))
        assert "runner" in text
        assert "secret" not in text


class TestFiles:
    async def test_nothing_is_writable_but_scratch_space(self, host: Host) -> None:
        code = """
            import os

            def handler(input_data, context):
                found = set()
                for top, directories, _ in os.walk("/"):
                    if top == "/":
                        directories[:] = [one for one in directories if one not in ("proc", "tmp")]
                    elif top.count("/") > 4:
                        directories.clear()  # what is above them is not theirs
                    try:
                        os.close(os.open(f"{top}/written", os.O_CREAT | os.O_WRONLY))
                        found.add(top)
                    except OSError:
                        pass
                return sorted(found)
        """
        assert set(await host.run(code)) <= {"/dev/shm", "/dev/mqueue"}

    async def test_nor_is_the_kernel(self, host: Host) -> None:
        code = """
            import os

            def handler(input_data, context):
                found = []
                for top, directories, names in os.walk("/proc"):
                    if top == "/proc":
                        directories[:] = [one for one in directories if not one.isdecimal() and one != "self"
                            and one != "thread-self"]
                    for name in names:
                        path = os.path.join(top, name)
                        try:
                            opened = os.open(path, os.O_WRONLY)
                            if os.fstat(opened).st_rdev != os.stat("/dev/null").st_rdev:
                                found.append(path)  # else it is covered
                            os.close(opened)
                        except OSError:
                            pass
                for path in ("/proc/kcore", "/proc/kmsg", "/dev/kmsg", "/dev/mem",
                             "/proc/sysrq-trigger", "/proc/1/root/etc/passwd"):
                    try:
                        if open(path, "rb").read(1):
                            found.append(path)
                    except OSError:
                        pass
                return found
        """
        found = set(await host.run(code))
        # Anyone may open these; writing there takes rights.
        assert found <= {"/proc/sys/kernel/ns_last_pid", *PRESSURE}, found

    async def test_keys_sockets_and_homes_of_the_machine(self, host: Host) -> None:
        code = """
            import os, socket

            def attempt(path):
                try:
                    with socket.socket(socket.AF_UNIX) as one:
                        one.connect(path)
                    return "connected"
                except OSError as error:
                    pass
                try:
                    return os.listdir(path) if os.path.isdir(path) else open(path, "rb").read(9)
                except OSError as error:
                    return None

            def handler(paths, context):
                return {path: str(found) for path in paths if (found := attempt(path))}
        """
        paths = [
            "/var/run/docker.sock",
            "/run/docker.sock",
            "/run/containerd/containerd.sock",
            "/run/sinas/control.sock",
            "/run/dbus/system_bus_socket",
            "/home",
            "/etc/shadow",
            str(host.data_dir),
            str(host.data_dir / "key"),
            str(REPOSITORY / "sinas"),
            str(HOME / ".bashrc"),
            str(HOME / ".profile"),
        ]
        assert await host.run(code, paths) == {}

    async def test_system_files_of_the_machine(self, host: Host) -> None:
        code = """
            import os

            def handler(input_data, context):
                return [os.stat("/etc").st_dev, os.stat("/etc").st_ino]
        """
        is_shared = await host.run(code) == [ETC.st_dev, ETC.st_ino]
        status = host.sandbox.status()
        assert is_shared == (status.backend == "process")
        if is_shared:
            assert any("of its /usr and /etc" in warning for warning in status.warnings)


class TestRights:
    async def test_there_are_none_to_be_had(self, host: Host) -> None:
        code = """
            import ctypes, os, platform, socket

            libc = ctypes.CDLL(None, use_errno=True)
            NEW_NS, NEW_USER, NEW_PID, NEW_NET = 0x20000, 0x10000000, 0x20000000, 0x40000000
            # The numbers of x86_64 and, where they differ, of aarch64.
            x86 = platform.machine() == "x86_64"
            BPF, PERF_EVENT_OPEN, USERFAULTFD = (321, 298, 323) if x86 else (280, 241, 282)
            ADD_KEY, KEYCTL = (248, 250) if x86 else (217, 219)
            INIT_MODULE, KEXEC, CLONE = (175, 246, 56) if x86 else (105, 104, 220)
            IO_URING_SETUP, CLONE3 = 425, 435

            def attempt(action):
                try:
                    return action() not in (-1, None)
                except OSError:
                    return False

            def handler(input_data, context):
                attempts = {
                    "unshare": lambda: libc.unshare(NEW_NS),
                    "unshare user": lambda: libc.unshare(NEW_USER),
                    "unshare all": lambda: libc.unshare(NEW_USER | NEW_NS | NEW_PID | NEW_NET),
                    "mount": lambda: libc.mount(b"none", b"/tmp", b"tmpfs", 0, None),
                    "umount": lambda: libc.umount2(b"/proc", 2),
                    "remount": lambda: libc.mount(b"none", b"/", None, 32 | 4096, None),
                    "chroot": lambda: libc.chroot(b"/tmp"),
                    "device": lambda: libc.mknod(b"/tmp/mem", 0o20666, 0x101),
                    "sethostname": lambda: libc.sethostname(b"x", 1),
                    "settimeofday": lambda: libc.settimeofday(ctypes.byref((ctypes.c_long * 2)()), None),
                    "reboot": lambda: libc.reboot(0),
                    "setuid": lambda: libc.setresuid(0, 0, 0) if os.getuid() else -1,
                    "setgroups": lambda: libc.setgroups(1, (ctypes.c_uint * 1)(0)),
                    "bpf": lambda: libc.syscall(BPF, 0, 0, 0),
                    "module": lambda: libc.syscall(INIT_MODULE, b"", 0, b""),
                    "kexec": lambda: libc.syscall(KEXEC, 0, 0, 0, 0),
                    "raw socket": lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, 1),
                    "packet socket": lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0),
                    "nice": lambda: os.nice(-5),
                    "realtime": lambda: os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1)) or 1,
                    "clone": lambda: libc.syscall(CLONE, NEW_USER | 17, 0, 0, 0, 0),
                    "clone3": lambda: libc.syscall(CLONE3, (ctypes.c_uint64 * 11)(NEW_USER, 0, 0, 0, 17), 88),
                    "perf": lambda: libc.syscall(PERF_EVENT_OPEN, (ctypes.c_uint64 * 16)(1, 1), 0, -1, -1, 0),
                    "userfaultfd": lambda: libc.syscall(USERFAULTFD, 1),
                    "io_uring": lambda: libc.syscall(IO_URING_SETUP, 1, (ctypes.c_uint32 * 30)()),
                    "keyring": lambda: libc.syscall(ADD_KEY, b"user", b"x", b"y", 1, -4),
                    "keyctl": lambda: libc.syscall(KEYCTL, 0, -4, 0),
                }
                return [name for name, action in attempts.items() if attempt(action)]
        """
        assert await host.run(code) == []

    async def test_programs_that_give_rights_give_none(self, host: Host) -> None:
        code = """
            import os, stat

            def handler(input_data, context):
                for path in ("/bin/su", "/usr/bin/passwd", "/usr/bin/mount"):
                    if os.path.exists(path) and not os.statvfs(path).f_flag & os.ST_NOSUID:
                        fields = open("/proc/self/status").read().split("NoNewPrivs:")[1].split()
                        if fields[0] != "1":
                            return path
                return None
        """
        assert await host.run(code) is None


class TestNetwork:
    async def test_stores_and_metadata_whatever_they_are_called(self, host: Host) -> None:
        code = """
            import _socket, socket, urllib.request

            def direct(address):
                with socket.socket() as one:
                    one.settimeout(3)
                    _socket.socket.connect(one, address)
                    return one.recv(7)

            def tunnelled(address):
                with socket.create_connection(address, timeout=30) as one:
                    return one.recv(7)

            def by_proxy(address):
                return urllib.request.urlopen("http://{}:{}/".format(*address), timeout=30).read()

            def asked(address):
                with socket.create_connection(("127.0.0.1", 3128), timeout=30) as one:
                    one.sendall("CONNECT {}:{} HTTP/1.1\\r\\n\\r\\n".format(*address).encode())
                    line = one.recv(1000)
                    if b" 200 " in line.splitlines()[0]:
                        return line
                    raise OSError

            def handler(addresses, context):
                got = []
                for address in map(tuple, addresses):
                    for way in (direct, tunnelled, by_proxy, asked):
                        try:
                            got.append([way.__name__, *address, str(way(address))])
                        except OSError:
                            pass
                return got
        """
        names = ["127.0.0.1", "store.test", "rebound.test", "localhost", "host.docker.internal"]
        names += ["2130706433", "[::ffff:127.0.0.1]", "127.1"]
        addresses = [(name, port) for name in names for port in host.stores.values()]
        outer = [("169.254.169.254", 80), ("metadata.google.internal", 80), ("100.100.100.200", 80)]
        outer += [(own, port) for own in own_addresses() for port in (22, *host.stores.values())]
        assert await host.run(code, addresses + outer) == []
        assert host.reached == []

    async def test_sockets_of_the_machine_without_a_path(self, host: Host) -> None:
        code = """
            import socket

            def handler(name, context):
                with socket.socket(socket.AF_UNIX) as one:
                    return one.connect_ex("\\0" + name) == 0
        """
        name = f"sinas-{uuid.uuid4().hex}"
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(f"\0{name}")
            listener.listen()
            assert await host.run(code, name) is False

    async def test_other_sandboxes(self, backend: str, tmp_path: Path) -> None:
        listen = """
            import os, select, socket, time

            def handler(input_data, context):
                names = [("0.0.0.0", 7070), "\\0meeting", "/tmp/meeting", "/dev/shm/meeting"]
                kinds = [socket.AF_INET] + [socket.AF_UNIX] * 3
                listeners = []
                for kind, name in zip(kinds, names):
                    one = socket.socket(kind)
                    one.bind(name)
                    one.listen()
                    listeners.append(one)
                open("/tmp/here", "w").close()
                return bool(select.select(listeners, [], [], 3)[0]) or os.listdir("/tmp").count("there")
        """
        call = """
            import os, socket, time

            def handler(input_data, context):
                open("/tmp/there", "w").close()
                end = time.monotonic() + 2
                while time.monotonic() < end:
                    with socket.socket() as one:
                        if one.connect_ex(("127.0.0.1", 7070)) == 0:
                            return "loopback"
                    for name in ("\\0meeting", "/tmp/meeting", "/dev/shm/meeting"):
                        with socket.socket(socket.AF_UNIX) as one:
                            if one.connect_ex(name) == 0:
                                return name
                    if os.path.exists("/tmp/here"):
                        return "files"
                    time.sleep(0.05)
                return None
        """
        settings = settings_for(tmp_path, backend=backend, min_size=2)
        pool = await open_sandbox(settings, worker_id="tests", progress=print)
        try:
            async with asyncio.TaskGroup() as both:
                listening = both.create_task(pool.run(invocation(listen)))
                calling = both.create_task(pool.run(invocation(call)))
            assert value_of(calling.result()) is None
            assert value_of(listening.result()) == 0
        finally:
            await pool.aclose()


async def test_what_the_process_back_end_does_not_contain_is_said(host: Host) -> None:
    status = host.sandbox.status()
    told = " ".join(status.warnings)
    assert "kernel" in told
    for shortcoming in ("no CPU limit", "holds for each process", "/usr and /etc"):
        assert (shortcoming in told) == (status.backend == "process")


def own_addresses() -> list[str]:
    """This machine's, as far as they are not loopback."""
    return [
        one.address
        for interface in psutil.net_if_addrs().values()
        for one in interface
        if one.family is socket.AF_INET and not ip_address(one.address).is_loopback
    ]
