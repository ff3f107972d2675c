import json
import os
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from sinas.embedded.datadir import (
    DataDir,
    free_port,
    is_port_free,
    read_keys,
    read_runtime,
    write_private,
)
from sinas.embedded.errors import StartupError


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_keys_are_made_once_and_readable_only_by_their_owner(tmp_path: Path) -> None:
    data = DataDir.open(tmp_path / "data")
    first = data.keys()

    assert mode_of(data.keys_file) == 0o600
    assert DataDir.open(tmp_path / "data").keys() == first
    assert len(first.secret_key) >= 32


def test_the_encryption_key_is_a_fernet_key(tmp_path: Path) -> None:
    from cryptography.fernet import Fernet

    key = Fernet(DataDir.open(tmp_path).keys().encryption_key)

    assert key.decrypt(key.encrypt(b"text")) == b"text"


def test_a_keys_file_opened_to_others_is_closed_again(tmp_path: Path) -> None:
    data = DataDir.open(tmp_path)
    data.keys()
    data.keys_file.chmod(0o644)

    read_keys(data.keys_file)

    assert mode_of(data.keys_file) == 0o600


def test_a_broken_keys_file_is_refused_and_kept(tmp_path: Path) -> None:
    data = DataDir.open(tmp_path)
    data.keys_file.write_text('{"secret_key": "only one"}')

    with pytest.raises(StartupError, match=r"keys\.json cannot be read"):
        data.keys()
    assert data.keys_file.read_text() == '{"secret_key": "only one"}'


def test_the_instance_keeps_its_name_and_the_models_port(tmp_path: Path) -> None:
    data = DataDir.open(tmp_path)
    name, port = data.instance_id(), data.local_model_port()

    again = DataDir.open(tmp_path)

    assert (again.instance_id(), again.local_model_port()) == (name, port)


def test_a_taken_model_port_is_replaced(tmp_path: Path) -> None:
    data = DataDir.open(tmp_path)
    port = data.local_model_port()
    with socket.socket() as other:
        other.bind(("127.0.0.1", port))
        other.listen(1)

        replaced = data.local_model_port()

    assert replaced != port
    assert json.loads(data.instance_file.read_text())["local_model_port"] == replaced


def test_a_second_holder_of_the_lock_is_refused_by_name(tmp_path: Path) -> None:
    program = (
        "import sys, pathlib\n"
        "from sinas.embedded.datadir import DataDir\n"
        "with DataDir.open(pathlib.Path(sys.argv[1])).lock():\n"
        "    print('held', flush=True)\n"
        "    sys.stdin.read()\n"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        data = DataDir.open(tmp_path)
        with pytest.raises(StartupError, match=rf"already running .* \(process {holder.pid}\)"):
            data.lock().__enter__()
    finally:
        holder.communicate()
    with DataDir.open(tmp_path).lock():
        assert (tmp_path / "lock").read_text() == str(os.getpid())


def test_a_long_path_gets_its_sockets_elsewhere(tmp_path: Path) -> None:
    short = DataDir.open(tmp_path)
    long = DataDir.open(tmp_path / ("d" * 100))

    assert short.sockets == short.root / "run"
    assert len(f"{long.sockets}/postgres/.s.PGSQL.5432") <= 107
    assert mode_of(long.make_sockets()) == 0o700
    long.remove_sockets()
    assert not long.sockets.exists()


def test_an_unusable_directory_is_refused_in_words(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    with pytest.raises(StartupError, match="cannot be used"):
        DataDir.open(tmp_path / "file" / "data")


def test_without_an_instance_there_is_no_runtime(tmp_path: Path) -> None:
    assert read_runtime(tmp_path) is None


def test_the_word_of_a_killed_instance_is_not_believed(tmp_path: Path) -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    file = DataDir.open(tmp_path).runtime_file
    write_private(file, {"pid": gone.pid})
    assert read_runtime(tmp_path) is None

    write_private(file, {"pid": os.getpid()})
    runtime = read_runtime(tmp_path)
    assert runtime is not None
    assert runtime["pid"] == os.getpid()


def test_a_port_is_free_until_somebody_listens() -> None:
    port = free_port()
    assert is_port_free("127.0.0.1", port)
    with socket.socket() as server:
        server.bind(("127.0.0.1", port))
        server.listen(1)
        assert not is_port_free("127.0.0.1", port)
