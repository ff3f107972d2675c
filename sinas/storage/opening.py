"""The storage that the settings name."""

from pathlib import Path

from sinas.settings import Settings
from sinas.storage.base import Storage
from sinas.storage.local import LocalStorage
from sinas.storage.s3 import S3Storage


def open_storage(settings: Settings) -> Storage:
    """The storage; it connects when it is used first.

    Raises:
        ConfigurationError: It is `s3` without a bucket.
    """
    if settings.files.backend == "s3":
        return S3Storage(settings.files)
    path = settings.files.path or settings.core.data_dir / "files"
    return LocalStorage(Path(path).resolve())
