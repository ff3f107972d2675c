"""R6: spellings and tricks of server-side request forgery that get past the guarded client."""

from benchmarks.harness.row import Goal, Round, Row, main
from benchmarks.harness.stack import Stack
from sinas.egress.client import GuardedClient
from sinas.egress.policy import EgressPolicy
from sinas.errors import SinasError
from sinas.kit.addresses import parse_networks
from tests.egress.tricks import tricks
from tests.support.outside import Outside

_SECONDS = 5
_REDIRECTS = 3


async def measure(_stack: Stack) -> Round:
    client = GuardedClient(EgressPolicy(parse_networks("127.0.0.2")))
    failures: list[str] = []
    tried = 0
    try:
        async with Outside(tls=False) as inside, Outside(tls=False, host="127.0.0.2") as outside:
            asked = tricks(inside.port)
            for url in [*asked, *tricks(inside.port, "https")]:
                tried += 1
                if await _is_answered(client, url):
                    failures.append(f"answered: {url!r}")
            for url in asked:
                tried += 1
                target = url.replace("\r\n", "%0d%0a").encode()
                outside.answer = (
                    b"HTTP/1.1 302 Found\r\nContent-Length: 0\r\nLocation: " + target + b"\r\n\r\n"
                )
                await _is_answered(client, outside.url)
            failures += [f"received: {each.method} {each.target}" for each in inside.received]
    finally:
        await client.aclose()
    return Round({"passed": len(failures), "tried": tried}, failures)


async def _is_answered(client: GuardedClient, url: str) -> bool:
    try:
        await client.request("GET", url, timeout_seconds=_SECONDS, max_redirects=_REDIRECTS)
    except SinasError:
        return False
    return True


ROW = Row(
    id="R6",
    what="SSRF spellings and tricks that pass",
    how="The guarded client, which may reach 127.0.0.2 only, is asked for a server on 127.0.0.1 in "
    "every way of `tests/egress/tricks.py`, by HTTP, by HTTPS and by a redirect. Names that resolve "
    "to something else the second time are in the tests, with callbacks and connectors.",
    goals=(Goal("passed", "=", 0, ""), Goal("tried", ">=", 30, "")),
    measure=measure,
    rounds=1,
)

if __name__ == "__main__":
    main(ROW)
