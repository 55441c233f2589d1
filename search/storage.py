"""Where searches are kept: a folder with a folder for each of them, by name."""

import os
import re
import shlex
import time
from pathlib import Path

from search.folder import LOCK_FILE, MANIFEST_FILE, SPACE_FILE, SearchFolder
from spaces.errors import OutputError, SearchError, UsageError, near_miss, shown
from spaces.space import SearchSpace

MAX_NAME = 64
"""Characters of a search's name."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
UNBEGUN_FILES = (LOCK_FILE, SPACE_FILE)
"""What a launch may leave that was killed before the search began: the manifest is what begins it."""


def default_storage() -> Path:
    """Where searches live when nothing else is said: AFFECTUNE_STORAGE, else `runs` here."""
    return Path(os.environ.get("AFFECTUNE_STORAGE", "runs"))


def storage_option(storage: Path) -> str:
    """`--storage DIR`, as a command about a search in it can be typed anywhere."""
    return f"--storage {shlex.quote(str(storage))}"


def storage_words(storage: Path) -> str:
    """The same behind a space, as it needs to be typed here: empty where that is the default."""
    is_default = storage.absolute() == default_storage().absolute()
    return "" if is_default else f" {storage_option(storage)}"


def default_name(space: SearchSpace) -> str:
    """Of a search that is given none: its space, date and time."""
    return f"{space.name}-{time.strftime('%Y%m%d-%H%M%S')}"


def create_folder(storage: Path, name: str) -> SearchFolder:
    """A new search's folder.

    Raises:
        UsageError: the name can't be a folder's.
        OutputError: the storage can't be written.
        SearchError: a search of this name is there already.
    """
    if not _NAME.fullmatch(name) or len(name) > MAX_NAME:
        raise UsageError(f"name must be letters, digits, '.', '_' or '-', at most {MAX_NAME}, got {name!r}")
    path = storage.absolute() / name
    nearest = next(folder for folder in path.parents if folder.exists())
    if not nearest.is_dir() or not os.access(nearest, os.W_OK | os.X_OK):
        raise OutputError(f"storage must be a folder that can be written, got {nearest}; choose another --storage")
    if (path / MANIFEST_FILE).exists():
        raise SearchError(
            f"search {name!r} is there already: {path}; choose another --name, or go on with `affectune resume {name}`"
        )
    if path.exists() and (not path.is_dir() or any(map(_is_foreign, path.iterdir()))):
        raise SearchError(f"folder of a new search must be new or empty, got {path}; choose another --name")
    return SearchFolder(path)


def open_folder(storage: Path, name: str) -> SearchFolder:
    """An existing search's folder.

    Raises:
        SearchError: the storage holds no search of this name; the near miss is offered.
    """
    path = storage.absolute() / name
    if not _NAME.fullmatch(name) or not (path / MANIFEST_FILE).is_file():
        there = [file.parent.name for file in storage.glob(f"*/{MANIFEST_FILE}")]
        hint = near_miss(name, there) or "; it holds none"
        raise SearchError(f"search must be in the storage, got {shown(name)}: {storage}{hint}")
    return SearchFolder(path)


def _is_foreign(path: Path) -> bool:
    """Whether a launch that was killed before its search began would not have left this."""
    return path.name not in UNBEGUN_FILES and path.suffix != ".partial"
