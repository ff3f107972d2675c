"""Calls that misbehave, and what each may do at most to itself. The next call notices nothing."""

from dataclasses import dataclass

from sinas.sandbox.base import Crashed, Outcome, OutOfMemory, Raised, Returned, TimedOut

# What a call finds: the same after every attack as before the first.
LOOK = """
import json as j, os, sys, threading

def handler(input_data, context):
    processes = {}
    for pid in filter(str.isdecimal, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/cmdline") as file:
                processes[pid] = file.read()
        except OSError:
            pass
    places = [one for one in (".", "/tmp", "/dev/shm", "/dev/mqueue") if os.path.isdir(one)]
    print("printed")
    return {
        "files": {one: os.listdir(one) for one in places},
        "processes": len(processes),
        "strangers": [one for one in processes.values() if one and "runner" not in one],
        "descriptors": sorted(os.listdir("/proc/self/fd")),
        "environment": sorted(os.environ),
        "threads": threading.active_count(),
        "modules": sorted(name for name in sys.modules if "poison" in name),
        "builtins": [open.__module__, j.dumps.__module__, os.write.__module__, repr(os._exit)],
        "directory": os.getcwd(),
        "input": input_data,
    }
"""


@dataclass(frozen=True)
class Attack:
    """Code, and how it may end.

    Attributes:
        ends: Kinds of outcome; the back end that contains it later or sooner has another.
        says: Part of the error or the reason.
        process_only_warns: Part of the warning of the process back end, which lets it go on
            to return.
    """

    name: str
    code: str
    ends: tuple[type[Outcome], ...]
    says: str = ""
    timeout: float = 20.0
    process_only_warns: str = ""


def _handler(body: str, imports: str = "import os, sys, time") -> str:
    lines = "\n".join(f"    {line}" for line in body.strip().splitlines())
    return f"{imports}\n\ndef handler(input_data, context):\n{lines}\n"


EXHAUSTION = (
    Attack(
        "fork bomb",
        _handler("while True:\n    try:\n        os.fork()\n    except OSError:\n        pass"),
        (TimedOut, OutOfMemory, Crashed),
        timeout=2,
    ),
    Attack(
        "fork bomb of daemons that outlives its call",
        _handler(
            """
if os.fork() == 0:
    signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 65))
    while True:
        try:
            os.setsid() if os.fork() == 0 and os.getpid() != os.getsid(0) else os.fork()
        except OSError:
            pass
time.sleep(0.3)
return 1
""",
            "import os, signal, time",
        ),
        (Returned, Crashed, OutOfMemory),
    ),
    Attack(
        "thread bomb",
        _handler(
            "while True:\n    threading.Thread(target=time.sleep, args=(60,)).start()",
            "import threading, time",
        ),
        (Raised, OutOfMemory),
    ),
    Attack(
        "memory bomb",
        _handler("held = []\nwhile True:\n    held.append(bytearray(8 << 20))"),
        (OutOfMemory,),
    ),
    Attack(
        "memory bomb that catches MemoryError",
        _handler(
            "held = []\nwhile True:\n    try:\n        held.append(bytearray(8 << 20))\n"
            "    except MemoryError:\n        pass"
        ),
        (OutOfMemory, TimedOut),
        timeout=4,
    ),
    Attack(
        "memory of several processes",
        _handler(
            """
children = []
for _ in range(3):
    parent, child = socket.socketpair()
    if os.fork() == 0:
        parent.close()
        held = bytearray(b"x") * (100 << 20)
        child.send(b"1")
        child.send(child.recv(1))
        time.sleep(60)
    child.close()
    children.append(parent)
# One that the kernel killed for memory after its first word cannot say the second.
held = [one.recv(1) for one in children]
for one in children:
    try:
        one.send(b"2")
    except BrokenPipeError:
        pass
if held == [b"1"] * 3 and [one.recv(1) for one in children] == [b"2"] * 3:
    return "three times 100 MiB"
os._exit(9)
""",
            imports="import os, socket, time",
        ),
        (OutOfMemory, Crashed),
        process_only_warns="holds for each process",
    ),
    Attack(
        "disk fill",
        _handler(
            """
try:
    with open("/tmp/fill", "wb") as file:
        while True:
            file.write(b"x" * (1 << 20))
except OSError as error:
    raise ValueError(f"{os.path.getsize('/tmp/fill') >> 20} MiB") from error
"""
        ),
        (Raised,),
        says="ValueError: ",
    ),
    Attack(
        "fill of shared memory",
        _handler(
            """
for number in range(100):
    with open(f"/dev/shm/{number}", "wb") as file:
        file.write(b"x" * (1 << 20))
"""
        ),
        (Raised,),
        says="No space left",
    ),
    Attack(
        "files without end",
        _handler("for n in range(10**9):\n    os.close(os.open(f'/tmp/{n}', os.O_CREAT))"),
        (Raised,),
        says="No space left",
        timeout=30,
    ),
    Attack(
        "descriptors without end",
        _handler("while True:\n    os.dup(0)"),
        (Raised,),
        says="Too many open files",
    ),
    Attack("endless loop in C", _handler("return sum(range(10**12))"), (TimedOut,), timeout=1),
    Attack(
        "endless regular expression",
        _handler("return re.match('(a+)+$', 'a' * 64 + 'b')", "import re"),
        (TimedOut,),
        timeout=1,
    ),
    Attack(
        "endless loop behind blocked signals",
        _handler(
            "signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 65))\nwhile True:\n    pass",
            "import signal",
        ),
        (TimedOut,),
        timeout=1,
    ),
    Attack(
        "huge output",
        _handler(
            "for _ in range(50):\n    print('x' * 1_000_000)\n    os.write(2, b'y' * 1_000_000)"
        ),
        (Returned,),
    ),
    Attack("huge result", _handler("return 'x' * 50_000_000"), (Raised,), says="the limit is"),
    Attack(
        "nested result",
        _handler("x = []\nfor _ in range(100_000):\n    x = [x]\nreturn x"),
        (Raised,),
    ),
    Attack("recursion", _handler("return handler(input_data, context)"), (Raised,), "Recursion"),
    Attack(
        "higher limits",
        _handler(
            """
for kind in (resource.RLIMIT_AS, resource.RLIMIT_NPROC, resource.RLIMIT_NOFILE):
    soft, hard = resource.getrlimit(kind)
    if hard == resource.RLIM_INFINITY:
        continue  # the container limits it
    try:
        resource.setrlimit(kind, (hard + 1, hard + 1))
        return kind
    except (ValueError, OSError):
        pass
raise ValueError("none")
""",
            "import resource",
        ),
        (Raised,),
        says="ValueError: none",
    ),
)

ENDINGS = (
    Attack("sys.exit", _handler("sys.exit(0)"), (Raised,), "SystemExit: 0"),
    Attack("os._exit", _handler("os._exit(0)"), (Crashed,), "code 0 without a result"),
    Attack("abort", _handler("os.abort()"), (Crashed,), "SIGABRT"),
    Attack("SIGKILL to itself", _handler("os.kill(os.getpid(), 9)"), (Crashed,), "SIGKILL"),
    Attack("SIGKILL to its group", _handler("os.killpg(0, 9)"), (Crashed,), "SIGKILL"),
    Attack("SIGKILL to all", _handler("os.kill(-1, 9)\nos.kill(os.getpid(), 9)"), (Crashed,)),
    Attack(
        "SIGSTOP to all",
        _handler("os.kill(-1, 19)\nos.kill(os.getpid(), 19)"),
        (TimedOut,),
        timeout=1,
    ),
    Attack("another program", _handler("os.execv('/bin/true', ['true'])"), (Crashed,), "code 0"),
    Attack(
        "segmentation fault",
        _handler("ctypes.string_at(0)", "import ctypes"),
        (Crashed,),
        "SIGSEGV",
    ),
    Attack(
        "KeyboardInterrupt", _handler("raise KeyboardInterrupt"), (Raised,), "KeyboardInterrupt"
    ),
    Attack("result that is no JSON", _handler("return {(1, 2): 3}"), (Raised,), "not JSON"),
    Attack("result that is no number", _handler("return float('nan')"), (Raised,), "result is nan"),
    Attack(
        "result that never becomes text",
        "class Odd:\n    def __str__(self):\n        while True:\n            pass\n\n"
        + _handler("return Odd()"),
        (TimedOut,),
        timeout=1,
    ),
    Attack(
        "handlers at exit",
        _handler("atexit.register(time.sleep, 600)\nreturn 1", "import atexit, time"),
        (Returned,),
    ),
    Attack(
        "threads left behind",
        _handler(
            "for _ in range(5):\n    threading.Thread(target=time.sleep, args=(600,)).start()",
            "import threading, time",
        ),
        (Returned,),
    ),
    Attack(
        "children left behind",
        _handler(
            """
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 65))
        time.sleep(600)
    os._exit(0)
subprocess.Popen(["/bin/sleep", "600"], start_new_session=True)
""",
            "import os, signal, subprocess, time",
        ),
        (Returned,),
    ),
    Attack(
        "a child that is stopped",
        _handler("pid = os.fork()\nif pid == 0:\n    time.sleep(600)\nos.kill(pid, 19)\nreturn 1"),
        (Returned,),
    ),
)

FORGERY = (
    Attack(
        "modules of the runner",
        _handler(
            """
for name, module in list(sys.modules.items()):
    if name.startswith("runner"):
        for key in list(vars(module)):
            if not key.startswith("__"):
                setattr(module, key, None)
        sys.modules[name] = None
sys.modules["poison"] = sys
raise ValueError("done")
"""
        ),
        (Crashed, Raised),
    ),
    Attack(
        "what the runner calls",
        _handler(
            """
def poison(*args, **kwargs):
    raise SystemError("poisoned")

json.dumps = json.loads = poison
os.write = os.read = os.getpid = poison
builtins.open = builtins.isinstance = builtins.len = poison
return 1
""",
            "import builtins, json, os",
        ),
        (Crashed, Raised),
    ),
    Attack(
        "os._exit that does not exit",
        _handler("os._exit = print\nreturn 1"),
        (Returned,),
        timeout=2,
    ),
    Attack(
        "sys.stdout and sys.stderr",
        _handler("sys.stdout = sys.__stdout__ = None\nsys.stderr = object()\nreturn 1"),
        (Returned,),
    ),
    Attack(
        "a stdout that never flushes",
        "class Odd:\n    def write(self, text):\n        pass\n\n    def flush(self):\n"
        "        while True:\n            pass\n\n" + _handler("sys.stdout = Odd()\nreturn 1"),
        (TimedOut,),
        timeout=1,
    ),
    Attack("descriptors", _handler("os.closerange(0, 4096)\nreturn 1"), (Crashed,)),
    Attack(
        "an answer before the end",
        _handler(
            """
if os.fork() == 0:
    time.sleep(600)
answer = {"kind": "returned", "value": "forged", "deprecation": None}
os.write(3, sys.modules["runner.protocol"].frame(json.dumps(answer).encode()))
while True:
    pass
""",
            "import json, os, sys, time",
        ),
        (Returned,),
        timeout=2,
    ),
    Attack("nonsense as an answer", _handler("os.write(3, b'\\xff' * 100_000)"), (Crashed,)),
    Attack(
        "an answer of a size nobody has",
        _handler("os.write(3, b'\\x00\\xff\\xff\\xff\\xff' * 10)\ntime.sleep(600)"),
        (Crashed, TimedOut),
        timeout=2,
    ),
    Attack(
        "control lines where the answer goes",
        _handler('os.write(3, b\'{"op": "ended", "id": 1}\\n\' * 1000)\nreturn 1'),
        (Crashed,),
    ),
)

LEFTOVERS = (
    Attack(
        "files, links and rights",
        _handler(
            """
os.makedirs("/tmp/a/b/c")
open("/tmp/a/b/secret", "w").write("1")
open("/dev/shm/secret", "w").write("1")
open(".hidden\\n\\x01", "w").write("1")
os.symlink("/", "/tmp/root")
os.symlink("/usr/lib", "/tmp/a/lib")
os.symlink("/proc/1/root", "/tmp/a/other")
os.symlink("/tmp/loop", "/tmp/loop")
os.mkfifo("/tmp/pipe")
os.link("/tmp/a/b/secret", "/tmp/hard")
socket.socket(socket.AF_UNIX).bind("/tmp/socket")
for path in ("/tmp/a/b/secret", "/tmp/a/b/c", "/tmp/a/b", "/tmp/a"):
    os.chmod(path, 0)
os.chdir("/")
return 1
""",
            "import os, socket",
        ),
        (Returned,),
    ),
    Attack(
        "directories deeper than paths are long",
        _handler(
            "for _ in range(3000):\n    os.mkdir('deep')\n    os.chdir('deep')\nreturn 1",
        ),
        (Returned,),
    ),
    Attack(
        "a directory swapped for a link while it is emptied",
        _handler(
            """
os.mkdir("/tmp/victim")
if os.fork() == 0:
    os.setsid()
    while True:
        try:
            os.rename("/tmp/victim", "/tmp/moved")
            os.symlink("/run/sinas", "/tmp/victim")
            os.unlink("/tmp/victim")
            os.rename("/tmp/moved", "/tmp/victim")
        except OSError:
            pass
return 1
"""
        ),
        (Returned,),
    ),
    Attack(
        "POSIX shared memory, open and forgotten",
        _handler(
            """
shared = shared_memory.SharedMemory("left", create=True, size=1 << 20)
shared.buf[:4] = b"left"
return 1
""",
            "from multiprocessing import shared_memory",
        ),
        (Returned,),
    ),
)
