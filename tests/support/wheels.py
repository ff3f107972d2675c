"""A package index of one's own: wheels and source archives made on the spot, for pip to find."""

import base64
import hashlib
import io
import tarfile
import zipfile
from collections.abc import Sequence
from pathlib import Path

import pytest


class Index:
    """A folder of packages, and the variables that make pip look nowhere else."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        monkeypatch.setenv("PIP_NO_INDEX", "1")
        monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
        monkeypatch.setenv("PIP_NO_CACHE_DIR", "1")

    def wheel(
        self,
        name: str,
        version: str = "1.0",
        *,
        source: str | None = None,
        requires: Sequence[str] = (),
        tag: str = "py3-none-any",
    ) -> Path:
        """Add a wheel with one module called like the package."""
        info = f"{name}-{version}.dist-info"
        files = {
            f"{name}.py": source if source is not None else f"VERSION = {version!r}\n",
            f"{info}/METADATA": _metadata(name, version, requires),
            f"{info}/WHEEL": f"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: {tag}\n",
        }
        record = "".join(f"{path},{_hash(text)},{len(text)}\n" for path, text in files.items())
        files[f"{info}/RECORD"] = f"{record}{info}/RECORD,,\n"
        path = self.folder / f"{name}-{version}-{tag}.whl"
        with zipfile.ZipFile(path, "w") as archive:
            for inside, text in files.items():
                archive.writestr(inside, text)
        return path

    def source_archive(self, name: str, proof: Path, version: str = "1.0") -> Path:
        """Add a source archive whose build script creates `proof`."""
        script = f"open({str(proof)!r}, 'w').close()\nfrom setuptools import setup\nsetup()\n"
        path = self.folder / f"{name}-{version}.tar.gz"
        with tarfile.open(path, "w:gz") as archive:
            for inside, text in (("setup.py", script), ("PKG-INFO", _metadata(name, version, ()))):
                entry = tarfile.TarInfo(f"{name}-{version}/{inside}")
                entry.size = len(text)
                archive.addfile(entry, io.BytesIO(text.encode()))
        return path


def _metadata(name: str, version: str, requires: Sequence[str]) -> str:
    head = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
    return head + "".join(f"Requires-Dist: {one}\n" for one in requires)


def _hash(text: str) -> str:
    digest = hashlib.sha256(text.encode()).digest()
    return "sha256=" + base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
