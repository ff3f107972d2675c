"""Names of tools, within what providers accept."""

import hashlib
from collections.abc import Collection

_MAX_CHARS = 64
_HASH_CHARS = 8


def fitting(plain: str, resource: str, *, taken: Collection[str] = ()) -> str:
    """`plain`, cut and told apart by a hash of `resource` where it is too long or taken.

    Joining namespace and name is not one to one: `a_b/c` and `a/b_c` look alike then.
    """
    if len(plain) <= _MAX_CHARS and plain not in taken:
        return plain
    digest = hashlib.sha256(resource.encode()).hexdigest()[:_HASH_CHARS]
    return f"{plain[: _MAX_CHARS - _HASH_CHARS - 1]}_{digest}"
