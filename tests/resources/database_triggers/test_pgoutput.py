"""Messages of `pgoutput` that are not as they should be. What it does write, real servers tell."""

import pytest

from sinas.resources.database_triggers.pgoutput import Begin, Decoder

BEGIN = b"B" + (0x16B3748).to_bytes(8) + bytes(12)


def test_the_place_of_a_commit() -> None:
    assert Decoder().read(BEGIN) == Begin(commit_lsn=0x16B3748)


@pytest.mark.parametrize("message", [b"", b"S1234", BEGIN[:5], b"R\0\0\0\1public\0t\0d\0\1"])
def test_what_is_not_understood_is_no_nothing(message: bytes) -> None:
    with pytest.raises(ValueError, match="pgoutput"):
        Decoder().read(message)
