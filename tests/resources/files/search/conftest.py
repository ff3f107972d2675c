"""The collection that the tests of search fill."""

from uuid import UUID

import pytest

from sinas.context import AppContext
from tests.fixtures.client import SignIn
from tests.resources.files.search.world import SearchWorld


@pytest.fixture
async def world(context: AppContext, as_: SignIn) -> SearchWorld:
    answer = await (await as_("admin")).post(
        "/api/v1/collections", json={"namespace": "docs", "name": "handbook"}
    )
    assert answer.status_code == 201, answer.text
    return SearchWorld(context, as_, UUID(answer.json()["id"]))
