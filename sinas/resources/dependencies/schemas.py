"""Bodies of the package operations."""

from datetime import datetime
from typing import Self
from uuid import UUID

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version
from pydantic import Field, field_validator, model_validator

from sinas.crud.schema import Input, Output


class DependencyInstall(Input):
    """A package to approve: its name, and a version unless the newest will do.

    `{"package_name": "requests==2.32.0"}` says the same as
    `{"package_name": "requests", "version": "2.32.0"}`.
    """

    package_name: str = Field(min_length=1, max_length=255)
    version: str | None = Field(None, max_length=255)

    @field_validator("version")
    @classmethod
    def _check_version(cls, value: str | None) -> str | None:
        return None if value is None else _version(value)

    @field_validator("package_name")
    @classmethod
    def _check_name(cls, value: str) -> str:
        name, equals, version = value.partition("==")
        try:
            found = Requirement(name)
        except InvalidRequirement:
            found = None
        if found is None or found.name != name.strip():
            raise ValueError(
                f"'{name}' is no package name: letters, digits, '-', '_' and '.', without extras "
                "or version ranges; an exact version goes into version"
            )
        return f"{canonicalize_name(name.strip())}{equals}{_version(version.strip()) if equals else ''}"

    @model_validator(mode="after")
    def _take_apart(self) -> Self:
        self.package_name, equals, version = self.package_name.partition("==")
        if equals and self.version is not None:
            raise ValueError("give the version once: in package_name or in version")
        self.version = version or self.version
        return self


def _version(value: str) -> str:
    try:
        return str(Version(value))
    except InvalidVersion:
        raise ValueError(f"'{value}' is no version; write it as in 2.32.0 (PEP 440)") from None


class DependencyRead(Output):
    """An approved package. `version` is null where the newest was asked for."""

    id: UUID
    package_name: str
    version: str | None
    installed_at: datetime
    installed_by: UUID | None
