"""Worker processes and their leases."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import func
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from sinas.db.base import Base
from sinas.kit.json_types import JsonObject


class Worker(Base):
    """One running worker process.

    One row is the lease of everything the process works on: rows it runs carry its id, and one
    update renews them all. `info` is what health reports show (the sandbox's state).
    """

    __tablename__ = "workers"

    id: Mapped[UUID] = mapped_column(primary_key=True)
    queue: Mapped[str]
    hostname: Mapped[str]
    pid: Mapped[int]
    max_jobs: Mapped[int]
    started_at: Mapped[datetime] = mapped_column(server_default=func.now())
    lease_until: Mapped[datetime]
    info: Mapped[JsonObject] = mapped_column(JSONB, default=dict, server_default="{}")
