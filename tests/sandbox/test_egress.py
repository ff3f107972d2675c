"""What a call reaches of the world, and how, in every back end and with every setting."""

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from sinas.egress.policy import Address, look_up
from sinas.errors import UnavailableError
from sinas.sandbox import egress
from sinas.sandbox.base import Raised, Sandbox
from sinas.sandbox.opening import open_sandbox
from tests.sandbox.conftest import OpenSandbox, invocation, settings_for, value_of
from tests.support.outside import Outside

NAME = "service.test"
GREETING = b"220 service.test ready\r\n"


async def resolve(host: str, executor: Any = None) -> list[Address]:
    """The system's resolver, which knows one name more."""
    known = host.lower().rstrip(".") == NAME
    return [ip_address("127.0.0.1")] if known else await look_up(host, executor)


@dataclass
class World:
    """A sandbox and what there is outside; `service.test` is 127.0.0.1, which it may reach."""

    sandbox: Sandbox
    web: Outside
    tls: Outside
    api: Outside
    mail_port: int
    deaf_port: int

    async def run(self, code: str, given: Any = None) -> Any:
        """What a call of `code` returns."""
        return value_of(await self.sandbox.run(invocation(code, input=given)))


async def _speak_smtp(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(GREETING)
    while (line := await reader.readline()).strip():
        writer.write(b"221 bye\r\n" if line.lower().startswith(b"quit") else b"250 ok\r\n")
    writer.close()


@pytest_asyncio.fixture(scope="module")
async def world(backend: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    mail = await asyncio.start_server(_speak_smtp, "127.0.0.1", 0)
    over = asyncio.Event()

    async def hold(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await over.wait()
        writer.close()

    deaf = await asyncio.start_server(hold, "127.0.0.1", 0)
    async with Outside(tls=False) as web, Outside() as tls, Outside(tls=False) as api:
        settings = settings_for(
            tmp_path_factory.mktemp(backend),
            core={"port": api.port},
            backend=backend,
            egress_allow="127.0.0.1",
        )
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(egress, "look_up", resolve)
            sandbox = await open_sandbox(settings, worker_id="tests", progress=print)
        ports = [server.sockets[0].getsockname()[1] for server in (mail, deaf)]
        yield World(sandbox, web, tls, api, *ports)
        await sandbox.aclose()
    over.set()
    mail.close()
    deaf.close()


class TestTheWayOut:
    async def test_programs_that_know_proxies(self, world: World) -> None:
        code = """
            import subprocess, sys, urllib.request

            def handler(url, context):
                fetch = "import sys, urllib.request as u; print(u.urlopen(sys.argv[1]).read())"
                child = subprocess.run(
                    [sys.executable, "-c", fetch, url], capture_output=True, text=True
                )
                return [urllib.request.urlopen(url).read().decode(), child.stdout]
        """
        url = f"http://{NAME}:{world.web.port}/a?b=c"
        assert await world.run(code, url) == ["ok", "b'ok'\n"]
        assert [one.target for one in world.web.received[-2:]] == ["/a?b=c"] * 2

    async def test_sockets(self, world: World) -> None:
        code = """
            import http.client, socket

            def handler(given, context):
                name, port = given
                found = []
                for host in (name, name.upper(), name + "."):
                    connection = http.client.HTTPConnection(host, port, timeout=10)
                    connection.request("GET", "/plain")
                    found.append(connection.getresponse().read().decode())
                    connection.close()
                address = socket.gethostbyname(name)
                again = socket.getaddrinfo(name, port, type=socket.SOCK_STREAM)[0][4][0]
                with socket.socket() as one:
                    found.append([one.connect_ex((address, port)), one.gettimeout()])
                with socket.socket() as one:
                    one.settimeout(7)
                    one.connect((name, port))
                    one.sendall(b"GET /timed HTTP/1.1\\r\\n\\r\\n")
                    found.append([one.recv(15).decode(), one.gettimeout()])
                return [found, address == again]
        """
        found, same = await world.run(code, [NAME, world.web.port])
        assert found == ["ok", "ok", "ok", [0, None], ["HTTP/1.1 200 OK", 7]]
        assert same

    async def test_event_loops_tls_and_servers_that_speak_first(self, world: World) -> None:
        code = """
            import asyncio, smtplib, ssl

            async def plain(host, port):
                reader, writer = await asyncio.open_connection(host, port)
                assert writer.get_extra_info("socket").gettimeout() == 0
                writer.write(b"GET /loop HTTP/1.1\\r\\n\\r\\n")
                line = (await reader.readline()).decode()
                writer.close()
                return line

            async def several(host, port):
                return sorted(set(await asyncio.gather(*(plain(host, port) for _ in range(20)))))

            async def secret(host, port, authority, name):
                trust = ssl.create_default_context(cadata=authority)
                reader, writer = await asyncio.open_connection(
                    host, port, ssl=trust, server_hostname=name
                )
                writer.close()
                return writer.get_extra_info("ssl_object").version()

            def handler(given, context):
                host, web, tls, mail, authority = given
                with smtplib.SMTP(host, mail, timeout=10) as client:
                    greeted = client.noop()[0]
                trusted = asyncio.run(secret(host, tls, authority, "127.0.0.1"))
                try:
                    asyncio.run(secret(host, tls, authority, host))
                except ssl.SSLCertVerificationError as error:
                    refused = error.verify_message
                return [greeted, trusted, refused, asyncio.run(several(host, web))]
        """
        trust = world.tls.trust
        assert trust is not None
        (authority,) = trust.get_ca_certs(binary_form=True)
        given = [NAME, world.web.port, world.tls.port, world.mail_port]
        found = await world.run(code, [*given, ssl.DER_cert_to_PEM_cert(authority)])
        assert found[0] == 250
        assert found[1].startswith("TLS")
        assert "service.test" in found[2]
        assert found[3] == ["HTTP/1.1 200 OK\r\n"]

    async def test_refusals_are_ordinary_errors_with_the_reason(self, world: World) -> None:
        code = """
            import asyncio, socket, urllib.request

            def attempt(action):
                try:
                    return action()
                except OSError as error:
                    return f"{type(error).__name__}: {error}"

            def handler(closed, context):
                private = ("10.0.0.1", 80)
                return [
                    attempt(lambda: socket.create_connection(private)),
                    attempt(lambda: asyncio.run(asyncio.open_connection(*private))),
                    attempt(lambda: socket.create_connection(("no.such.invalid", 80))),
                    attempt(lambda: socket.create_connection(("service.test", closed))),
                    attempt(lambda: urllib.request.urlopen("https://10.0.0.1/")),
                    attempt(lambda: urllib.request.urlopen("http://10.0.0.1/")),
                    socket.socket().connect_ex(private),
                ]
        """
        with socket.socket() as unused:
            unused.bind(("127.0.0.1", 0))
            closed = unused.getsockname()[1]
            found = await world.run(code, closed)
        reason = (
            "'10.0.0.1' may not be reached: it has no public address, and SANDBOX_EGRESS_ALLOW "
            "does not name it."
        )
        refused = f"'service.test:{closed}' cannot be reached: Connection refused."
        assert found == [
            f"PermissionError: [Errno 13] {reason}",
            f"PermissionError: [Errno 13] {reason}",
            "ConnectionRefusedError: [Errno 111] The host 'no.such.invalid' cannot be found.",
            f"ConnectionRefusedError: [Errno 111] {refused}",
            f"URLError: <urlopen error Tunnel connection failed: 403 {reason}>",
            f"HTTPError: HTTP Error 403: {reason}",
            13,
        ]

    async def test_there_is_no_other(self, world: World) -> None:
        """What goes round the proxy finds no network at all: neither this machine nor others."""
        code = """
            import _socket, os, socket

            def attempt(kind, address):
                with _socket_of(kind) as one:
                    try:
                        _socket.socket.connect(one, address)
                        one.send(b"x")
                    except OSError as error:
                        return error.strerror
                return "sent"

            def _socket_of(kind):
                one = socket.socket(socket.AF_INET, kind)
                one.settimeout(3)
                return one

            def handler(given, context):
                port, addresses = given
                interfaces = [name for _, name in socket.if_nameindex()]
                tried = {
                    attempt(kind, (address, port))
                    for address in addresses
                    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM)
                }
                return [interfaces, sorted(tried), attempt(socket.SOCK_STREAM, ("127.0.0.1", port))]
        """
        addresses = ["192.0.2.2", "172.17.0.1", "169.254.169.254", "8.8.8.8"]
        interfaces, tried, here = await world.run(code, [world.web.port, addresses])
        assert interfaces == ["lo"]
        assert tried == ["Network is unreachable"]
        assert here == "Connection refused"  # its own loopback, not the machine's


class TestTheWayBack:
    async def test_the_api_has_the_names_and_ports_it_is_known_by(self, world: World) -> None:
        code = """
            import asyncio, os, socket, urllib.request

            async def stream(port):
                reader, writer = await asyncio.open_connection("localhost", port)
                writer.write(b"GET /stream HTTP/1.1\\r\\n\\r\\n")
                line = await reader.readline()
                writer.close()
                return line.decode().split()[1]

            def handler(port, context):
                bases = [os.environ["SINAS_API_URL"]]
                for host in ("host.docker.internal", "localhost", "127.0.0.1"):
                    bases.append(f"http://{host}:{port}")
                found = [urllib.request.urlopen(f"{base}/x", timeout=10).read().decode() for base in bases]
                return [found, asyncio.run(stream(port))]
        """
        before = len(world.api.received)
        assert await world.run(code, world.api.port) == [["ok"] * 4, "200"]
        targets = [one.target for one in world.api.received[before:]]
        assert targets == ["/x"] * 4 + ["/stream"]  # and none of them through the proxy

    async def test_connections_of_a_call_that_is_over_hold_nothing_up(self, world: World) -> None:
        leave = """
            import socket

            def handler(given, context):
                host, port, count = given
                held = [socket.create_connection((host, port), timeout=10) for _ in range(count)]
                open_for_good.extend(held)
                return len(held)

            open_for_good = []
        """
        # Three times as many as the relay carries, to a server that ignores their end.
        for _ in range(5):
            assert await world.run(leave, [NAME, world.deaf_port, 40]) == 40


class TestSettings:
    async def test_none(self, open_pool: OpenSandbox) -> None:
        code = """
            import os, socket, urllib.request

            def handler(i, context):
                api = urllib.request.urlopen(os.environ["SINAS_API_URL"], timeout=10).read().decode()
                try:
                    socket.create_connection(("8.8.8.8", 53))
                except OSError as error:
                    return [api, error.strerror, "HTTP_PROXY" in os.environ, os.path.exists(i)]
        """
        async with Outside(tls=False) as api:
            pool = await open_pool(core={"port": api.port}, egress="none")
            found = value_of(await pool.run(invocation(code, input="/run/sinas/proxy.sock")))
        assert found == ["ok", "Network is unreachable", False, False]
        assert "no network, but the API" in pool.status().boundary
        assert "proxy" not in pool.status().boundary

    async def test_network(self, open_pool: OpenSandbox) -> None:
        pool = await open_pool(egress="network")
        code = (
            "import socket\n\ndef handler(i, c):\n    return [n for _, n in socket.if_nameindex()]"
        )
        interfaces = value_of(await pool.run(invocation(code)))
        assert len(interfaces) > 1
        assert "network" in pool.status().boundary
        assert "no network" not in pool.status().boundary
        assert any("metadata services" in warning for warning in pool.status().warnings)

    async def test_proxy_needs_no_warning(self, world: World) -> None:
        status = world.sandbox.status()
        assert "no network, but the API and a proxy to public addresses" in status.boundary
        assert not any("network" in warning for warning in status.warnings)


@pytest.mark.docker
class TestRuntime:
    async def test_it_is_used_and_named(self, tmp_path: Path) -> None:
        settings = settings_for(tmp_path, runtime="runc")  # a runtime implies Docker
        pool = await open_sandbox(settings, worker_id="tests", progress=print)
        try:
            status = pool.status()
            assert status.backend == "docker"
            assert "of the runtime runc" in status.boundary
            assert any("kernel" in warning for warning in status.warnings)
            assert value_of(await pool.run(invocation("def handler(i, c):\n    return 1"))) == 1
        finally:
            await pool.aclose()

    async def test_one_the_engine_does_not_know(self, tmp_path: Path) -> None:
        settings = settings_for(tmp_path, runtime="none-such")
        with pytest.raises(UnavailableError, match=r"SANDBOX_RUNTIME is none-such.*it has .*runc"):
            await open_sandbox(settings, worker_id="tests", progress=print)


async def test_a_refused_call_is_a_raised_one(world: World) -> None:
    code = "import socket\n\ndef handler(i, c):\n    socket.create_connection(('10.0.0.1', 80))"
    outcome = await world.sandbox.run(invocation(code))
    assert isinstance(outcome, Raised)
    assert outcome.error.endswith("SANDBOX_EGRESS_ALLOW does not name it.")
    assert "tunnel.py" not in outcome.traceback
