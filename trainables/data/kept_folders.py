"""Folders of the user's in which things are kept from search to search: where they are, and how much they may hold."""

import os
from pathlib import Path

from spaces.errors import UsageError

NEVER = "off"
"""What a variable says that switches its folder off."""


def users_folder() -> Path | None:
    """`affectune` among the caches of this user; None where he has no home.

    As the XDG base directory specification has it, which ignores relative paths.
    """
    named = Path(os.environ.get("XDG_CACHE_HOME", ""))
    try:
        return (named if named.is_absolute() else Path.home() / ".cache") / "affectune"
    except RuntimeError:
        return None


def kept_folder(variable: str, default: Path | None) -> Path | None:
    """The folder that a variable names, else the default; None where it is switched off.

    Raises:
        UsageError: the variable makes no sense.
    """
    named = os.environ.get(variable, "").strip()
    if named.lower() == NEVER:
        return None
    try:
        folder = Path(named).expanduser() if named else default
    except RuntimeError:  # a user without a home
        raise UsageError(f"{variable} must be a folder, or {NEVER}, got {named!r}") from None
    return None if folder is None else folder.absolute()


def most_bytes(variable: str, default_gb: float) -> int:
    """How much may be kept, as a variable says in gigabytes.

    Raises:
        UsageError: it is no number from 0 up.
    """
    text = os.environ.get(variable, "").strip() or str(default_gb)
    try:
        bound_gb = float(text)
    except ValueError:
        bound_gb = -1.0
    if not 0 <= bound_gb < float("inf"):
        raise UsageError(f"{variable} must be a number of gigabytes from 0 up, got {text!r}")
    return int(bound_gb * 1e9)
