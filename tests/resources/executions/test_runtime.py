"""Reading executions, and jobs, over HTTP."""

from datetime import timedelta

import pytest

from sinas.context import AppContext
from sinas.kit.time import utcnow
from sinas.models import ExecutionStatus, TriggerType
from tests.factories.chats import make_chat
from tests.factories.functions import make_execution, make_function
from tests.fixtures.client import SignIn
from tests.fixtures.database import QueryCounter


async def test_lists_are_own_newest_first_and_paged(
    context: AppContext, as_: SignIn, query_counter: QueryCounter
) -> None:
    function = await make_function(context, await as_.user("user"))
    now = utcnow()
    ids = [
        str((await make_execution(context, function, started_at=now - timedelta(hours=age))).id)
        for age in range(3)
    ]
    theirs = await make_execution(context, function, user=await as_.user("other"))
    client = await as_("user")
    with query_counter() as queries:
        listed = (await client.get("/executions")).json()
    assert [row["id"] for row in listed] == ids
    assert queries.count == 2, queries.statements
    paged = (await client.get("/executions", params={"skip": 1, "limit": 1})).json()
    assert [row["execution_id"] for row in paged] == ids[1:2]
    everyones = (await (await as_("admin")).get("/executions")).json()
    assert {row["id"] for row in everyones} == {*ids, str(theirs.id)}


async def test_filters(context: AppContext, as_: SignIn) -> None:
    user = await as_.user("user")
    client = await as_("user")
    a = await make_function(context, user, namespace="one", name="same")
    b = await make_function(context, user, namespace="two", name="same")
    chat = await make_chat(context, user, None)
    first = await make_execution(context, a, status=ExecutionStatus.COMPLETED, chat_id=chat.id)
    second = await make_execution(
        context, b, trigger_type=TriggerType.AGENT, parent_execution_id=first.id
    )

    async def found(**params: str) -> set[str]:
        answer = await client.get("/executions", params=params)
        assert answer.status_code == 200, answer.text
        return {row["id"] for row in answer.json()}

    both = {str(first.id), str(second.id)}
    assert await found(function_name="same") == both
    assert await found(function_name="one/same") == {str(first.id)}
    assert await found(function_name="no/same") == set()
    assert await found(status="completed") == {str(first.id)}
    assert await found(status="PENDING") == {str(second.id)}
    assert await found(chat_id=str(chat.id)) == {str(first.id)}
    assert await found(trigger_type="agent") == {str(second.id)}
    assert await found(parent_execution_id=str(first.id)) == {str(second.id)}
    assert await found(batch_id=str(first.id)) == set()
    for bad in ({"status": "done"}, {"trigger_type": "x"}, {"chat_id": "x"}, {"limit": "0"}):
        assert (await client.get("/executions", params=bad)).status_code == 422


@pytest.mark.parametrize(
    "path", ["/executions/{}", "/executions/{}/steps", "/jobs/{}", "/jobs/{}/result"]
)
async def test_other_peoples_and_absent_ones_do_not_exist(
    context: AppContext, as_: SignIn, path: str
) -> None:
    function = await make_function(context, await as_.user("user"))
    row = await make_execution(context, function, status=ExecutionStatus.COMPLETED)
    url = path.format(row.id)
    assert (await (await as_("user")).get(url)).status_code == 200
    assert (await (await as_("other")).get(url)).status_code == 404
    assert (await (await as_("admin")).get(url)).status_code == 200
    absent = path.format("00000000-0000-7000-8000-000000000000")
    assert (await (await as_("admin")).get(absent)).status_code == 404
    assert (await (await as_("user")).get(path.format("x"))).status_code == 404


async def test_steps_are_the_calls_of_a_calls_code_in_order(
    context: AppContext, as_: SignIn
) -> None:
    function = await make_function(context, await as_.user("user"))
    parent = await make_execution(context, function)
    now = utcnow()
    children = [
        await make_execution(
            context,
            function,
            parent_execution_id=parent.id,
            started_at=now + timedelta(seconds=second),
        )
        for second in (2, 1)
    ]
    steps = (await (await as_("user")).get(f"/executions/{parent.id}/steps")).json()
    assert [step["id"] for step in steps] == [str(row.id) for row in reversed(children)]
