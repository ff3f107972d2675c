"""Rate limits, and whose they are."""

from uuid import uuid4

from tests.resources.auth.conftest import verify


async def login(client, email, forwarded=None):
    headers = {"X-Forwarded-For": forwarded} if forwarded else {}
    return await client.post("/auth/login", json={"email": email}, headers=headers)


async def test_logins_per_client(client):
    for number in range(10):
        assert (await login(client, f"user-{number}@example.com")).status_code == 200
    refused = await login(client, "another@example.com")
    assert refused.status_code == 429
    assert 1 <= int(refused.headers["Retry-After"]) <= 900
    assert refused.json()["detail"] == "Too many requests. Please try again later."


async def test_logins_per_address_whatever_its_spelling(client):
    spellings = ["ann@example.com", "ANN@example.com", " ann@Example.com ", "Ann@example.com"]
    for number, email in enumerate([*spellings, "ann@example.com"]):
        answer = await login(client, email, forwarded=f"203.0.113.{number}")
        assert answer.status_code == 200
    assert (await login(client, "aNN@example.com", forwarded="203.0.113.99")).status_code == 429
    assert (await login(client, "bob@example.com", forwarded="203.0.113.99")).status_code == 200


async def test_who_is_over_their_own_limit_does_not_use_up_the_address(client):
    for number in range(10):
        await login(client, f"user-{number}@example.com", forwarded="203.0.113.1")
    for _ in range(10):
        assert (await login(client, "ann@example.com", forwarded="203.0.113.1")).status_code == 429
    assert (await login(client, "ann@example.com", forwarded="203.0.113.2")).status_code == 200


async def test_users_behind_a_trusted_proxy_have_limits_of_their_own(client):
    for number in range(12):
        answer = await login(client, f"user-{number}@example.com", forwarded=f"198.51.100.{number}")
        assert answer.status_code == 200


async def test_a_client_cannot_choose_its_address(client_with):
    """Without a trusted proxy the header is somebody's claim."""
    client = await client_with(auth={"trusted_proxies": "10.0.0.0/8"})
    for number in range(10):
        answer = await login(client, f"user-{number}@example.com", forwarded=f"1.2.3.{number}")
        assert answer.status_code == 200
    assert (await login(client, "ann@example.com", forwarded="1.2.3.200")).status_code == 429


async def test_a_client_cannot_prepend_addresses(client):
    """Our proxy appends the real address; what the client sent stays left of it."""
    for number in range(10):
        forged = f"1.2.3.{number}, 203.0.113.7"
        assert (await login(client, f"user-{number}@example.com", forged)).status_code == 200
    assert (await login(client, "ann@example.com", "1.2.3.200, 203.0.113.7")).status_code == 429


async def test_tries_per_client(client):
    for _ in range(10):
        assert (await verify(client, str(uuid4()), "123456")).status_code == 400
    refused = await verify(client, str(uuid4()), "123456")
    assert refused.status_code == 429
    assert int(refused.headers["Retry-After"]) >= 1


async def test_a_window_ends(client_with):
    import asyncio

    client = await client_with(
        auth={"rate_limit_window_seconds": 1, "rate_limit_login_email_max": 1}
    )
    assert (await login(client, "ann@example.com")).status_code == 200
    refused = await login(client, "ann@example.com")
    assert refused.status_code == 429
    await asyncio.sleep(int(refused.headers["Retry-After"]) + 0.1)
    assert (await login(client, "ann@example.com")).status_code == 200


async def test_limits_are_kept_under_their_documented_keys(client, context):
    await login(client, "Ann@example.com", forwarded="2001:db8:1:2:3::4")
    keys = {key.decode() for key in await context.redis.keys("sinas:ratelimit:*")}
    assert keys == {
        "sinas:ratelimit:login:ip:2001:db8:1:2::/64",
        "sinas:ratelimit:login:email:ann@example.com",
    }
    for key in keys:
        assert 0 < await context.redis.ttl(key) <= 900
