"""What drivers tell in the same words, whatever database they speak to."""

from typing import Final

from sinas.databases.base import (
    DatabaseTarget,
    Limits,
    ReadOnlyError,
    StatementError,
    StatementTimeoutError,
)

MAX_RESULT_BYTES: Final = 32 * 2**20


def check_writable(target: DatabaseTarget) -> None:
    """Refuse a change through a connection that only reads.

    Raises:
        ReadOnlyError: It does.
    """
    if target.read_only:
        raise ReadOnlyError(f"The database connection '{target.name}' is read-only.")


def timed_out(limits: Limits) -> StatementTimeoutError:
    """The error of a statement whose time limit passed."""
    return StatementTimeoutError(
        f"The statement took longer than {limits.seconds:g} s and was stopped."
    )


def too_large() -> StatementError:
    """The error of a result beyond `MAX_RESULT_BYTES`."""
    return StatementError(f"The result is larger than {MAX_RESULT_BYTES // 2**20} MB; select less.")


def out_of_reach(target: DatabaseTarget, reason: str) -> str:
    """Where the server is said to be, and why it cannot be used there."""
    return f"'{target.name}' cannot be reached at {target.host} port {target.port}: {reason}"
