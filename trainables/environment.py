"""What a process computes with: versions of what decides about results, and a hash of our own code."""

import hashlib
import platform
import socket
from collections.abc import Mapping
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from spaces.errors import SearchError

PACKAGES = ("torch", "timm", "pyarrow", "numpy", "ray", "albumentations")
CODE = ("spaces", "trainables")
"""Our packages that run in workers."""

_ROOT = Path(__file__).resolve().parents[1]


@cache
def read_environment() -> Mapping[str, str]:
    """Name to version of Python, of the libraries and of our code, as this process would import them."""
    return {"Python": platform.python_version(), **{name: _version(name) for name in PACKAGES}, "code": _code_hash()}


def difference(theirs: Mapping[str, str], ours: Mapping[str, str]) -> tuple[str, str, str] | None:
    """The first thing in which two environments differ, with its two values; None where they are alike."""
    for name, value in ours.items():
        if theirs.get(name, "none") != value:
            return name, theirs.get(name, "none"), value
    return None


def check_environment(drivers: Mapping[str, str]) -> None:
    """Refuse to compute with something else than the driver: for a machine that has joined a search on its way.

    Args:
        drivers: its `read_environment`.

    Raises:
        SearchError: what differs is named, with this machine and both values.
    """
    if found := difference(read_environment(), drivers):
        name, own, wanted = found
        raise SearchError(f"{name} must be the driver's ({wanted}) on every node, got {own}: {socket.gethostname()}")


def _version(name: str) -> str:
    """Without what names a build: machines with and without GPUs may have two of one version."""
    try:
        return version(name).partition("+")[0]
    except PackageNotFoundError:
        return "none"


def _code_hash() -> str:
    digest = hashlib.sha256()
    for file in sorted(file for package in CODE for file in (_ROOT / package).rglob("*.py")):
        digest.update(f"{file.relative_to(_ROOT)}\n".encode() + file.read_bytes())
    return digest.hexdigest()[:12]
