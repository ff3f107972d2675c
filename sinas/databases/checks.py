"""What no statement may be, whichever database it goes to."""

from sinas.databases.base import StatementError
from sinas.databases.parameters import Parsed

# They outlive the statement on a connection that others use next, end the transaction that keeps
# a read from writing, or speak a protocol of their own.
_SESSION_WORDS = frozenset(
    [
        "abort",
        "begin",
        "close",
        "commit",
        "copy",
        "deallocate",
        "declare",
        "discard",
        "end",
        "execute",
        "fetch",
        "handler",
        "kill",
        "listen",
        "load",
        "lock",
        "move",
        "prepare",
        "release",
        "reset",
        "rollback",
        "savepoint",
        "set",
        "start",
        "unlisten",
        "unlock",
        "use",
        "xa",
    ]
)


def check_single(parsed: Parsed) -> None:
    """Refuse what is not one statement on data or structure.

    Raises:
        StatementError: Several statements, none, or one about the session.
    """
    if parsed.is_several:
        raise StatementError("Only one statement at a time can be run; remove what follows ';'.")
    first = parsed.words[0]
    if not first:
        raise StatementError("There is no statement.")
    if first in _SESSION_WORDS:
        raise StatementError(
            f"{first.upper()} cannot be run here: the transaction and the session are Sinas'."
        )
