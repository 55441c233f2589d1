"""What a bag's folder says of it: which config it repeats, with which settings, and how it ended; `bag.json`."""

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from search.ends import TrialEnd
from spaces.config import TrialConfig
from spaces.errors import ConfigError
from trainables.outputs import write_text

BAG_FILE = "bag.json"


@dataclass(frozen=True)
class BagRecord:
    """One bag, wanted or there.

    Attributes:
        trial_id: whose config it repeats.
        number: among the bags of this config, from 0.
        settings: the complete config, flat.
        end: None until it has ended; a bag that was cut off has none either, and goes on the next time.
        error: one sentence, where it failed.
    """

    trial_id: str
    number: int
    settings: dict[str, Any]
    end: TrialEnd | None = None
    error: str = ""

    def serves(self, wanted: "BagRecord") -> bool:
        """Whether this is the bag that is wanted: it is known by its settings, and may keep more late epochs."""
        own, other = dict(self.settings), dict(wanted.settings)
        return bool(own.pop("train.snapshots") >= other.pop("train.snapshots") and own == other)


def write_bag(folder: Path, record: BagRecord) -> None:
    """Replace a folder's bag.json."""
    write_text(folder / BAG_FILE, json.dumps(asdict(record), indent=2) + "\n")


def end_bag(folder: Path, record: BagRecord, end: TrialEnd, *, error: str = "") -> None:
    """Note a bag's end. One that was preempted has none: it goes on the next time."""
    if end != "preempted":
        write_bag(folder, replace(record, end=end, error=error))


def read_bag(folder: Path) -> BagRecord | None:
    """What a folder says of its bag; None where there is none, or one of settings that there are no more."""
    try:
        record = BagRecord(**json.loads((folder / BAG_FILE).read_text(encoding="utf-8")))
        return replace(record, settings=TrialConfig.from_flat(record.settings).to_flat())
    except (OSError, ValueError, TypeError, ConfigError):
        return None


def iter_bags(ensemble_dir: Path) -> Iterator[tuple[Path, BagRecord]]:
    """The bags that are there, whatever became of them, by their folders' names."""
    for folder in sorted(ensemble_dir.glob("b[0-9]*")):
        record = read_bag(folder)
        if record is not None:
            yield folder, record
