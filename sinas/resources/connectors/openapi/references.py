"""References inside a document. Nothing is fetched."""

from typing import Any

from referencing import Registry, Resource, Specification
from referencing.exceptions import Unresolvable

from sinas.kit.json_types import JsonObject
from sinas.resources.connectors.openapi.reading import DocumentError

_MAX_STEPS = 32


class References:
    """Resolves `$ref` of one document."""

    def __init__(self, document: JsonObject) -> None:
        resource: Resource[Any] = Specification.OPAQUE.create_resource(document)
        self._resolver = Registry().with_resource("", resource).resolver()

    def target(self, reference: object) -> Any:
        """What a reference means.

        Raises:
            DocumentError: It leads nowhere, or out of the document.
        """
        if not isinstance(reference, str) or not reference.startswith("#"):
            raise DocumentError(f"The reference {reference!r} leads out of the document.")
        try:
            return self._resolver.lookup(reference).contents
        except (Unresolvable, ValueError, TypeError, IndexError, KeyError):
            raise DocumentError(f"The reference {reference!r} leads nowhere.") from None

    def followed(self, value: Any) -> dict[str, Any]:
        """An object of the document, or the one it refers to.

        Raises:
            DocumentError: It leads nowhere, in a circle, or to something else.
        """
        for _ in range(_MAX_STEPS):
            if not isinstance(value, dict):
                raise DocumentError("There is no object where one is expected.")
            if "$ref" not in value:
                return value
            value = self.target(value["$ref"])
        raise DocumentError("A reference leads to itself.")
