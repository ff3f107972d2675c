"""The SDK signs in, and is told what it may not."""

import httpx
import pytest

from tests.clients.conftest import OpenSdk
from tests.clients.sdk import Sdk, SdkError
from tests.fixtures.client import SignIn
from tests.resources.auth.conftest import Codes, codes

__all__ = ["codes"]


async def test_a_login_from_the_code_to_the_logout(
    open_sdk: OpenSdk, as_: SignIn, codes: Codes
) -> None:
    user = await as_.user("user")
    sdk = await open_sdk()
    session_id = (await sdk("auth.login", user.email))["session_id"]
    pair = await sdk("auth.verify_otp", session_id, await codes.next(user.email))
    assert (pair["token_type"], pair["user"]["email"]) == ("bearer", user.email)
    # It keeps the token by itself.
    assert (await sdk("auth.get_me"))["id"] == str(user.id)
    renewed = await sdk("auth.refresh", pair["refresh_token"])
    assert renewed["access_token"]
    assert (await sdk("auth.get_me"))["email"] == user.email
    assert await sdk("auth.logout", renewed["refresh_token"]) is None
    with pytest.raises(SdkError) as refused:
        await sdk("auth.refresh", renewed["refresh_token"])
    assert (refused.value.type, refused.value.status) == ("SinasAuthError", 401)


async def test_a_token_of_an_identity_provider_where_none_is_set_up(open_sdk: OpenSdk) -> None:
    sdk = await open_sdk()
    with pytest.raises(SdkError) as refused:
        await sdk("auth.external_auth", "eyJhbGciOiJSUzI1NiJ9.e30.c2ln")
    assert (refused.value.type, refused.value.status) == ("SinasNotFoundError", 404)


async def test_a_wrong_code(open_sdk: OpenSdk, as_: SignIn, codes: Codes) -> None:
    user = await as_.user("user")
    sdk = await open_sdk()
    session_id = (await sdk("auth.login", user.email))["session_id"]
    code = await codes.next(user.email)
    with pytest.raises(SdkError) as refused:
        await sdk("auth.verify_otp", session_id, f"{(int(code) + 1) % 10**6:06d}")
    assert (refused.value.type, refused.value.status) == ("SinasAPIError", 400)


async def test_permissions(sdk: Sdk) -> None:
    asked = ["sinas.agents.create:own", "sinas.users.delete:all"]
    both = await sdk("auth.check_permissions", asked)
    assert (both["result"], both["logic"]) == (False, "AND")
    assert [check["has_permission"] for check in both["checks"]] == [True, False]
    either = await sdk("auth.check_permissions", asked, logic="OR")
    assert either["result"] is True


async def test_tokens_and_keys_are_both_bearer_credentials(
    open_sdk: OpenSdk, sdk: Sdk, as_: SignIn
) -> None:
    headers: httpx.Headers = (await as_("user")).headers
    with_token = await open_sdk(token=headers["authorization"].removeprefix("Bearer "))
    assert await with_token("auth.get_me") == await sdk("auth.get_me")


async def test_errors_by_their_class(open_sdk: OpenSdk, sdk: Sdk) -> None:
    nobody = await open_sdk()
    expected = (
        (nobody, "chats.list", (), "SinasAuthError", 401),
        (sdk, "chats.get", ("7c9e6679-7425-40de-944b-e07fc1f90ae7",), "SinasNotFoundError", 404),
        (sdk, "chats.get", ("no-id",), "SinasValidationError", 422),
        (sdk, "chats.invoke", ("default", "nobody", "hi"), "SinasNotFoundError", 404),
    )
    for client, method, arguments, name, status in expected:
        with pytest.raises(SdkError) as refused:
            await client(method, *arguments)
        assert (refused.value.type, refused.value.status) == (name, status)
        assert str(refused.value) == refused.value.response["detail"]
