"""Lets code that knows no proxy out: its TCP connections ask the proxy for the way.

A sandbox has no network but its loopback. What honours HTTP_PROXY needs nothing of this; here
the sockets of Python do likewise. Names that only the platform can resolve get an address of a
range nobody has (198.18.0.0/15, RFC 2544), which stands for the name when it is connected to, so
that the platform resolves it, and TLS still sees the name. A convenience and no boundary: code
that goes round it finds no network.
"""

import errno
import re
import socket
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Any

_FIRST_FAKE = int(IPv4Address("198.18.0.1"))
_LAST_FAKE = int(IPv4Address("198.19.255.254"))
_NAME = re.compile(r"(?=.{1,253}$)[a-z0-9_-]+(\.[a-z0-9_-]+)*\.?", re.IGNORECASE)
# The platform takes ten seconds for a name and ten for a connection at most.
_HANDSHAKE_SECONDS = 25.0
_MAX_ANSWER_BYTES = 8192
_ERRNO = {403: errno.EACCES, 502: errno.ECONNREFUSED, 503: errno.ENOBUFS, 504: errno.ETIMEDOUT}
_HERE = "localhost,127.0.0.1,::1,host.docker.internal"

_Socket: Any = socket.socket.__mro__[1]  # what `socket.socket` adds its methods to
_getaddrinfo = socket.getaddrinfo

_proxy_port = 0
_fakes: dict[str, str] = {}  # by name
_names: dict[str, str] = {}  # by address


def install(proxy_port: int) -> None:
    """Send what leaves to the proxy on this loopback port, in this process and its forks."""
    global _proxy_port  # noqa: PLW0603 - sockets have nowhere else to look it up
    _proxy_port = proxy_port
    patched: Any = socket
    patched.socket.connect, patched.socket.connect_ex = _connect, _connect_ex
    patched.getaddrinfo, patched.gethostbyname = _resolve, _resolve_one


def variables() -> dict[str, str]:
    """Environment variables for programs that know proxies."""
    if not _proxy_port:
        return {}
    url = f"http://127.0.0.1:{_proxy_port}"
    upper = {"HTTP_PROXY": url, "HTTPS_PROXY": url, "ALL_PROXY": url, "NO_PROXY": _HERE}
    return upper | {name.lower(): value for name, value in upper.items()}


def _resolve(
    host: Any,
    port: Any,
    family: int = 0,
    type: int = 0,  # noqa: A002 - a name of socket.getaddrinfo
    proto: int = 0,
    flags: int = 0,
) -> Any:
    try:
        return _getaddrinfo(host, port, family, type, proto, flags)
    except socket.gaierror:
        numeric = flags & socket.AI_NUMERICHOST
        fake = None if numeric or family == socket.AF_INET6 else _fake(host)
        if fake is None:
            raise
        return _getaddrinfo(fake, port, socket.AF_INET, type, proto, flags)


def _resolve_one(hostname: str) -> str:
    return str(_resolve(hostname, None, socket.AF_INET)[0][4][0])


def _fake(host: Any) -> str | None:
    """The address that stands for a name; None if it is none."""
    try:
        name = host.encode("idna").decode() if isinstance(host, str) else bytes(host).decode()
    except (UnicodeError, TypeError):
        return None
    name = name.lower()
    if not _NAME.fullmatch(name):
        return None
    if name not in _fakes:
        number = _FIRST_FAKE + len(_fakes)
        if number > _LAST_FAKE:
            return None
        _fakes[name] = str(IPv4Address(number))
        _names[_fakes[name]] = name
    return _fakes[name]


def _connect(self: socket.socket, address: Any) -> None:
    target = _target(self, address)
    if target is None:
        _Socket.connect(self, address)
    else:
        _tunnel(self, *target)


def _connect_ex(self: socket.socket, address: Any) -> int:
    target = _target(self, address)
    if target is None:
        return int(_Socket.connect_ex(self, address))
    try:
        _tunnel(self, *target)
    except OSError as error:
        return error.errno or errno.ECONNREFUSED
    return 0


def _target(sock: socket.socket, address: Any) -> tuple[str, int] | None:
    """Host and port to ask the proxy for; None for what stays in the sandbox or is no TCP."""
    inet = sock.family in (socket.AF_INET, socket.AF_INET6)
    if not inet or sock.type != socket.SOCK_STREAM or not isinstance(address, tuple):
        return None
    host, port = address[:2]
    if not isinstance(host, str) or not isinstance(port, int):
        return None
    found = _parse(host)
    if found is None:
        try:
            host = str(_resolve(host, port, sock.family)[0][4][0])
        except OSError:
            return None  # connecting raises it
        found = _parse(host)
    if found is None or found.is_loopback or found.is_unspecified:
        return None
    return _names.get(host, host), port


def _parse(host: str) -> IPv4Address | IPv6Address | None:
    try:
        address = ip_address(host.partition("%")[0])
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def _tunnel(sock: socket.socket, host: str, port: int) -> None:
    """Connect through the proxy, waiting for it even where the socket does not block."""
    proxy = "::ffff:127.0.0.1" if sock.family == socket.AF_INET6 else "127.0.0.1"
    at = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    timeout = sock.gettimeout()
    _Socket.settimeout(sock, timeout or _HANDSHAKE_SECONDS)
    try:
        _Socket.connect(sock, (proxy, _proxy_port))
        _Socket.sendall(sock, f"CONNECT {at} HTTP/1.1\r\nHost: {at}\r\n\r\n".encode())
        answer = b""
        # Byte by byte, because what follows is the server's.
        while not answer.endswith(b"\r\n\r\n"):
            byte = _Socket.recv(sock, 1)
            answer += byte
            if not byte or len(answer) > _MAX_ANSWER_BYTES:
                raise ConnectionResetError(
                    errno.ECONNRESET, "The way out of the sandbox is closed."
                )
    finally:
        _Socket.settimeout(sock, timeout)
    status, _, reason = answer.decode("latin-1").splitlines()[0].partition(" ")[2].partition(" ")
    if status != "200":
        raise OSError(_ERRNO.get(int(status), errno.ECONNREFUSED), reason)
