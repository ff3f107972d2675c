import re
from pathlib import Path

from sinas.settings import GROUPS


def variables() -> set[str]:
    """Every variable the settings read, by the first of its names."""
    names = set()
    for group in GROUPS.values():
        prefix = str(group.model_config.get("env_prefix", ""))
        for field, info in group.model_fields.items():
            alias = getattr(info.validation_alias, "choices", None)
            names.add(str(alias[0]) if alias else f"{prefix}{field}".upper())
    return names


def test_every_setting_is_in_the_example_file() -> None:
    """A setting nobody can find is none. Fix: add the variable to .env.example."""
    text = (Path(__file__).parents[2] / ".env.example").read_text()
    listed = set(re.findall(r"^#?([A-Z][A-Z0-9_]+)=", text, flags=re.MULTILINE))

    # The database's password is read by docker-compose.yml alone.
    assert listed - {"DATABASE_PASSWORD"} == variables()
