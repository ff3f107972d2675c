"""Ids that are no UUIDs: clients know them as text."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.fixtures.client import SignIn


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/executions/absent"),
        ("GET", "/executions/absent/steps"),
        ("POST", "/executions/absent/continue"),
        ("POST", "/executions/absent/cancel"),
        ("GET", "/jobs/absent"),
        ("GET", "/jobs/absent/result"),
        ("GET", "/batches/absent"),
        ("GET", "/batches/absent/executions"),
        ("POST", "/batches/absent/cancel"),
        ("POST", "/api/v1/queue/jobs/absent/cancel"),
        ("POST", "/api/v1/queue/dlq/absent/retry"),
    ],
)
async def test_what_is_no_id_is_not_found(as_: SignIn, method: str, path: str) -> None:
    admin = await as_("admin")
    answer = await admin.request(method, path, json={"input": {}} if method == "POST" else None)
    assert (answer.status_code, answer.json()["code"]) == (404, "not_found"), answer.text
    assert "'absent'" in answer.json()["detail"]
    strangers = await (await as_("nobody")).request(method, path, headers={"Authorization": "x"})
    assert strangers.status_code == 401
