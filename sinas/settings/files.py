"""The group about the bytes of files: where they are kept."""

from typing import Literal

from pydantic import Field, SecretStr
from pydantic_settings import SettingsConfigDict

from sinas.settings.platform import Group


class FileSettings(Group):
    """Where files are kept. All processes of an installation must see the same place."""

    model_config = SettingsConfigDict(env_prefix="FILE_STORAGE_")

    backend: Literal["local", "s3"] = Field(
        "local", description="`local` is a directory, `s3` anything that speaks S3's protocol."
    )
    path: str = Field(
        "",
        description="The directory of `local`, shared by all processes; empty means "
        "SINAS_DATA_DIR/files.",
    )
    s3_bucket: str = Field("", description="The bucket of `s3`; it must exist.")
    s3_prefix: str = Field("", description="Put before each key in the bucket, such as `sinas/`.")
    s3_endpoint: str = Field(
        "", description="Base URL of the S3 server; empty for Amazon's of the region."
    )
    s3_region: str = Field("us-east-1", description="Region of the bucket.")
    s3_access_key_id: str = Field(
        "", description="Empty for what the machine offers: role, profile or AWS_* variables."
    )
    s3_secret_access_key: SecretStr = Field(
        SecretStr(""), description="The secret that belongs to the access key."
    )
