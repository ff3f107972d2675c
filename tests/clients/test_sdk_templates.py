"""The SDK fills templates in and has them mailed."""

import dataclasses
from typing import Any

import pytest

from sinas.context import AppContext
from tests.clients.conftest import OpenSdk
from tests.clients.sdk import Sdk, SdkError
from tests.factories.identity import make_api_key
from tests.factories.templates import make_template
from tests.fixtures.client import SignIn, listening
from tests.fixtures.configuration import changed, free_port
from tests.fixtures.state import in_own_task
from tests.support.mail_server import mail_server


async def test_rendering(sdk: Sdk, context: AppContext, as_: SignIn) -> None:
    row = await make_template(
        context,
        await as_.user("user"),
        "<p>{{ name }}</p>",
        namespace="sales",
        title="For {{ name }}",
    )
    assert await sdk("templates.render", "sales", row.name, {"name": "<Ada>"}) == {
        "title": "For <Ada>",
        "html_content": "<p>&lt;Ada&gt;</p>",
        "text_content": None,
    }
    with pytest.raises(SdkError) as lacking:
        await sdk("templates.render", "sales", row.name, {})
    assert (lacking.value.type, lacking.value.status) == ("SinasAPIError", 400)
    assert "'name' is undefined" in str(lacking.value)
    with pytest.raises(SdkError) as unknown:
        await sdk("templates.render", "sales", "other", {})
    assert (unknown.value.type, unknown.value.status) == ("SinasNotFoundError", 404)


async def test_mail(open_sdk: OpenSdk, sdk: Sdk, context: AppContext, as_: SignIn) -> None:
    from sinas.app import create_app

    user = await as_.user("user")
    row = await make_template(context, user, "<p>{{ name }}</p>", title="Hi")
    _, key = await make_api_key(context, user)
    with pytest.raises(SdkError) as without:
        await sdk("templates.send_email", "default", row.name, "ada@example.com", {"name": "A"})
    assert without.value.status == 503
    async with mail_server() as smtp:
        settings = changed(context.settings, mail=smtp.settings())
        app = create_app(settings, dataclasses.replace(context, settings=settings))
        async with (
            in_own_task(app.router.lifespan_context(app)),
            in_own_task(listening(app, free_port())) as url,
        ):
            mailing = await open_sdk(api_key=key, at=url)
            named: dict[str, Any] = {"from_alias": "support", "from_name": "Support"}
            arguments = ("default", row.name, "ada@example.com", {"name": "A"})
            answer = await mailing("templates.send_email", *arguments, **named)
            assert answer == {"message": "Email sent successfully", "to": "ada@example.com"}
            mail = await smtp.next_message()
            assert mail["From"] == "Support <support@sinas.example>"
