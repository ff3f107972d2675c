"""How codes are made and kept."""

from uuid import uuid4

from sinas.auth.one_time import code_hash, is_code, new_code


def test_codes_are_six_digits_and_use_the_whole_range():
    codes = {new_code() for _ in range(2_000)}
    assert all(len(code) == 6 and code.isdigit() for code in codes)
    assert {code[0] for code in codes} == set("0123456789")
    assert len(codes) > 1_900


def test_the_hash_depends_on_key_session_and_code():
    session = uuid4()
    stored = code_hash("key", session, "123456")
    assert "123456" not in stored
    assert is_code(stored, "key", session, "123456")
    assert not is_code(stored, "other", session, "123456")
    assert not is_code(stored, "key", uuid4(), "123456")
    assert not is_code(stored, "key", session, "123457")
