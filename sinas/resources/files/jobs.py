"""Upkeep: bytes that no version has are removed."""

from datetime import timedelta

from sinas.queue.job import Sweep
from sinas.resources.files.blobs import sweep

SWEEPS = (Sweep(name="files.remove", every=timedelta(seconds=30), work=sweep),)
