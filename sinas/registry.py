"""Everything that is in the system, in one list."""

from sinas.resources.base import Resource

RESOURCES: tuple[Resource, ...] = ()
