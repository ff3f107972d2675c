"""Which address the first administrator has."""

from sinas.settings import Settings

DEVELOPMENT_ADMIN = "admin@example.com"


def superadmin_email(settings: Settings) -> str:
    """SUPERADMIN_EMAIL as it is stored with users; outside production it has a default."""
    given = settings.auth.superadmin_email.strip().lower()
    return given if given or settings.is_production else DEVELOPMENT_ADMIN
