"""Whose word counts for the client's address."""

import pytest

from sinas.kit.addresses import client_address, parse_networks, subscriber

PROXIES = parse_networks("10.0.0.0/8, 127.0.0.1,::1")


@pytest.mark.parametrize(
    ("peer", "forwarded", "found"),
    [
        ("203.0.113.9", [], "203.0.113.9"),
        ("10.0.0.1", [], "10.0.0.1"),
        # A client that writes the header itself is not believed.
        ("203.0.113.9", ["1.2.3.4"], "203.0.113.9"),
        # What it wrote before our proxy appended its address is not either.
        ("10.0.0.1", ["1.2.3.4, 203.0.113.9"], "203.0.113.9"),
        ("10.0.0.1", ["1.2.3.4", "203.0.113.9"], "203.0.113.9"),
        ("10.0.0.1", ["1.2.3.4, 203.0.113.9, 10.9.9.9"], "203.0.113.9"),
        # It cannot pass for one of our proxies.
        ("10.0.0.1", ["10.0.0.7, 203.0.113.9"], "203.0.113.9"),
        # A request from inside: every hop is ours.
        ("10.0.0.1", ["10.0.0.7, 10.0.0.8"], "10.0.0.7"),
        ("127.0.0.1", ["203.0.113.9:4711"], "203.0.113.9"),
        ("::1", ["[2001:db8::5]:4711"], "2001:db8::5"),
        ("::1", ["2001:db8::5"], "2001:db8::5"),
        ("::ffff:10.0.0.1", ["::ffff:203.0.113.9"], "203.0.113.9"),
        # Rubbish ends what is known.
        ("10.0.0.1", ["203.0.113.9, unknown"], "10.0.0.1"),
        ("10.0.0.1", ["203.0.113.9, "], "10.0.0.1"),
        ("10.0.0.1", ["<script>"], "10.0.0.1"),
        ("testclient", ["1.2.3.4"], "testclient"),
        (None, ["1.2.3.4"], None),
    ],
)
def test_client_address(peer, forwarded, found):
    assert client_address(peer, forwarded, PROXIES) == found


def test_nobody_is_trusted_by_default_here():
    assert client_address("127.0.0.1", ["1.2.3.4"], parse_networks("")) == "127.0.0.1"


def test_networks_must_be_networks():
    with pytest.raises(ValueError, match="10\\.0\\.0"):
        parse_networks("10.0.0")


def test_an_ipv6_subscriber_is_a_64():
    assert subscriber("2001:db8:1:2:3:4:5:6") == subscriber("2001:db8:1:2::1")
    assert subscriber("2001:db8:1:2::1") != subscriber("2001:db8:1:3::1")
    assert subscriber("203.0.113.9") == "203.0.113.9"
    assert subscriber("local") == "local"
