"""Offers the platform's API on a loopback port and carries it to a Unix socket."""

import os
import socket
import threading
from typing import NoReturn

# A call that opens more connections at once waits in the listen queue.
_MAX_CONNECTIONS = 64


def listen(port: int) -> socket.socket:
    """The loopback listener; the warm parent opens it and knows its port."""
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", port))
    listener.listen(128)
    return listener


def run(listener: socket.socket, upstream: str, uid: int) -> NoReturn:
    """Serve until killed. Runs in a process and as a user of its own.

    Args:
        listener: From `listen`.
        upstream: Path of the Unix socket the platform listens on.
        uid: The relay's user; different from every call's, so that no call can signal it.
    """
    try:
        if uid:
            os.setgroups([])
            os.setresgid(uid, uid, uid)
            os.setresuid(uid, uid, uid)
        slots = threading.BoundedSemaphore(_MAX_CONNECTIONS)
        threading.stack_size(256 * 1024)
        while True:
            slots.acquire()
            client, _ = listener.accept()
            threading.Thread(target=_carry, args=(client, upstream, slots), daemon=True).start()
    finally:
        os._exit(70)


def _carry(client: socket.socket, upstream: str, slots: threading.BoundedSemaphore) -> None:
    try:
        with client, socket.socket(socket.AF_UNIX) as server:
            server.connect(upstream)
            upward = threading.Thread(target=_pump, args=(client, server), daemon=True)
            upward.start()
            _pump(server, client)
            upward.join()
    except OSError:
        return  # the platform does not listen: the client sees its connection closed
    finally:
        slots.release()


def _pump(source: socket.socket, target: socket.socket) -> None:
    """Copy until either side ends, then end both: HTTP has no use for half a connection."""
    try:
        while data := source.recv(65_536):
            target.sendall(data)
    except OSError:
        pass  # the other direction closed both
    finally:
        for one in (source, target):
            try:
                one.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue  # already gone
