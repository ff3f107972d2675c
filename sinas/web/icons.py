"""Icons that are files of collections: where a caller can fetch them."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Annotated, Final, NamedTuple, TypeVar

from fastapi import Depends
from sqlalchemy import and_, case, or_, select, tuple_

from sinas.auth.principal import Principal
from sinas.db.base import IconMixin
from sinas.db.unit import Unit
from sinas.kit.file_names import lookup_name
from sinas.kit.time import utcnow
from sinas.models import Collection, File, FileVisibility
from sinas.web.deps import Caller, Context, InUnit
from sinas.web.file_links import Links

# Addresses stay as they are for an hour, so that browsers keep the pictures, and work for one more.
_HOUR: Final = 3600
_PREFIX: Final = "collection:"

R = TypeVar("R", bound=IconMixin)


class _Place(NamedTuple):
    namespace: str
    collection: str
    name: str


@dataclass(frozen=True, slots=True)
class IconLinks:
    """Finds the files that rows name as their icons, for one caller.

    What the caller may not download is no icon for them: a name in a row gives no right to a file.
    """

    links: Links
    unit: Unit
    principal: Principal

    async def on_all(self, rows: Sequence[R]) -> Sequence[R]:
        """The rows, each with its `icon_url`; one statement if any names a file, else none."""
        places = {row.icon: place for row in rows if row.icon and (place := _place(row.icon))}
        if places:
            found = await self._addresses(set(places.values()))
            for row in rows:
                if row.icon in places:
                    row.icon_url = found.get(places[row.icon])
        return rows

    async def on(self, row: R) -> R:
        """One row with its `icon_url`."""
        await self.on_all([row])
        return row

    async def _addresses(self, places: set[_Place]) -> dict[_Place, str]:
        is_shared = File.visibility == FileVisibility.SHARED
        is_own = File.user_id == self.principal.user_id
        is_public = and_(Collection.is_public, is_shared)
        statement = (
            select(
                Collection.namespace,
                Collection.name,
                File.name,
                File.id,
                File.current_version,
                is_public,
            )
            .join(File, File.collection_id == Collection.id)
            .where(
                tuple_(Collection.namespace, Collection.name, File.name).in_(places),
                or_(is_shared, is_own),
            )
            # The last one of a name stays: what is public to all, else the caller's private one.
            .order_by(is_public, case((is_shared, 0), else_=1))
        )
        lifetime = _until_the_hour_after_next(utcnow())
        addresses: dict[_Place, str] = {}
        for *names, file_id, version, open_to_all in await self.unit.session.execute(statement):
            place = _Place(*names)
            if open_to_all:
                addresses[place] = self.links.public(*place)
            elif self._may_download(place):
                addresses[place] = self.links.temporary(file_id, version, lifetime)
        return addresses

    def _may_download(self, place: _Place) -> bool:
        return self.principal.can_on(
            "collections", place.namespace, place.collection, "download", own=True
        )


async def _icon_links(context: Context, unit: InUnit, principal: Caller) -> IconLinks:
    return IconLinks(Links.of(context), unit, principal)


Icons = Annotated[IconLinks, Depends(_icon_links)]


def _place(icon: str) -> _Place | None:
    """Where the file of `collection:namespace/collection/file` is."""
    if not icon.startswith(_PREFIX):
        return None
    parts = icon.removeprefix(_PREFIX).split("/")
    if len(parts) != len(_Place._fields) or "\x00" in icon:
        return None
    return _Place(parts[0], parts[1], lookup_name(parts[2]))


def _until_the_hour_after_next(now: datetime) -> timedelta:
    into_the_hour = timedelta(seconds=now.timestamp() % _HOUR)
    return timedelta(seconds=2 * _HOUR) - into_the_hour
