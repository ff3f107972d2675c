"""Every method of the SDK's parts that Sinas serves is called by a test beside this one."""

from pathlib import Path

from tests.clients.sdk import DriverProcess

# There is no identity provider to exchange tokens with yet, and no search in files.
NOT_SERVED = {"auth.external_auth", "files.search"}


async def test_every_method_is_called(driver: DriverProcess) -> None:
    methods = set(await driver.do("methods"))
    assert methods >= NOT_SERVED | {"chats.invoke"}
    source = "".join(path.read_text() for path in Path(__file__).parent.glob("test_sdk_*.py"))
    assert [name for name in sorted(methods - NOT_SERVED) if f'"{name}"' not in source] == []
