"""An artifact's own words about its files, judged before anything of it is loaded.

Loading an artifact runs the code that it brings, as MLflow means it to: one from elsewhere is to be trusted like a
program. What is refused here is an artifact that would read what is not its own.
"""

import json
from pathlib import Path
from typing import Any

from spaces.errors import ModelError
from trainables.inside import leads_out, stays_inside

MEMBERS_FILE = Path("artifacts", "ensemble", "members.json")


def check_artifact_files(folder: Path) -> None:
    """Refuse an artifact that names files outside its folder, or holds links to some.

    Raises:
        ModelError: the name or the link is given.
    """
    if link := leads_out(folder):
        raise ModelError(f"files of a model must lie in its folder, got a link to {link.resolve()}: {link}")
    for name in _named_files(folder / MEMBERS_FILE):
        if not stays_inside(name) or "/" in name:
            raise ModelError(f"files of a model must lie beside its members.json, got {name!r}: {folder}")


def _named_files(members: Path) -> list[str]:
    """What members.json names; nothing where there is none that can be read, which others complain of."""
    try:
        document: Any = json.loads(members.read_text(encoding="utf-8"))
        entries = document["networks"]
        names = [entry.get(key) for entry in entries for key in ("file", "encoder_from")]
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return []
    return [str(name) for name in names if name is not None]
