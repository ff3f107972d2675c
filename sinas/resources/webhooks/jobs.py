"""Upkeep of deliveries."""

from datetime import timedelta

from sinas.context import AppContext
from sinas.queue.job import Sweep
from sinas.resources.webhooks.repository import purge

# Deduplication looks back as far as a webhook's largest TTL.
_LEAST_DAYS = 1


async def purge_deliveries(context: AppContext) -> None:
    """Delete deliveries that are older than WEBHOOK_RETENTION_DAYS."""
    days = max(_LEAST_DAYS, context.settings.webhook.retention_days)
    deleted = -1
    while deleted:
        async with context.unit() as unit:
            deleted = await purge(unit.session, days)


SWEEPS = (Sweep(name="webhooks.purge", every=timedelta(hours=1), work=purge_deliveries),)
