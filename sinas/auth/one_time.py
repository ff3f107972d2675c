"""One-time codes: how they are made and in what form they are kept."""

import hashlib
import hmac
import secrets
from uuid import UUID

_DIGITS = 6


def new_code() -> str:
    """Six digits from the operating system's random source."""
    return f"{secrets.randbelow(10**_DIGITS):0{_DIGITS}d}"


def code_hash(secret_key: str, session_id: UUID, code: str) -> str:
    """What is stored instead of the code.

    Six digits are guessed in a moment from a plain hash; without SECRET_KEY this one tells a
    reader of the table nothing.
    """
    message = b"otp:" + session_id.bytes + code.encode()
    return hmac.new(secret_key.encode(), message, hashlib.sha256).hexdigest()


def is_code(stored_hash: str, secret_key: str, session_id: UUID, code: str) -> bool:
    """Whether `code` is the one; takes the same time for every wrong one."""
    return hmac.compare_digest(stored_hash, code_hash(secret_key, session_id, code))
