"""`--first heads:N`: N head-only trials before a search, whose best settings are the first points of the full one.

The head-only trials are a search of their own, NAME-heads, of what of the space a head can tell about. They do not
choose backbones (Savchenko 2022, Table 7: the better backbone under a head loses after full training), so each backbone
hands over its best in turn. How far they told the truth is measured afterwards: `search.fidelity`.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from search.folder import MANIFEST_FILE, SearchFolder, TrialRecord
from search.packs.space import BACKBONE_SETTINGS
from search.ranking import usable
from search.storage import MAX_NAME, create_folder
from spaces.config import Value
from spaces.errors import SearchError, SpaceError, UsageError
from spaces.parameters import Parameter
from spaces.space import SearchSpace
from trainables.heads import HEAD_SETTINGS
from trainables.outputs import write_text

FIRST_FILE = "first.json"
HEAD_EPOCHS = 10
TIME_SHARE = 0.25
"""Of a search's time that its head-only trials may take."""
DEFAULT_HANDED = 6

HEAD_ONLY: dict[str, Value] = {
    "train.epochs": 0,
    "train.head_epochs": HEAD_EPOCHS,
    "train.head_batch_norm": "eval",
    "blend.partner": "none",
}


@dataclass(frozen=True)
class First:
    """What runs before a search.

    Attributes:
        n_trials: head-only ones.
        n_handed: settings that go over to the search as its first points.
    """

    n_trials: int
    n_handed: int = DEFAULT_HANDED


@dataclass(frozen=True)
class HandedOver:
    """What the head-only trials left, `first.json`.

    Attributes:
        search: name of the head-only search.
        points: values of the space's parameters, each with the head-only trial it comes from and its score.
        fidelity: rank correlation by backbone, once the full search has ended; see `search.fidelity`.
        n_asked: full trials there were when heads were asked about them, whether any could answer or not; 0 before.
    """

    search: str
    points: tuple[dict[str, Any], ...] = ()
    fidelity: dict[str, Any] = field(default_factory=dict)
    n_asked: int = 0


def parse_first(text: str) -> First:
    """What `heads:N` or `heads:N:M` says: N trials, the best M handed over.

    Raises:
        UsageError: it says something else.
    """
    words = text.split(":")
    numbers = [int(word) for word in words[1:] if word.isascii() and word.isdigit()]
    if words[0] != "heads" or len(numbers) != len(words) - 1 or len(numbers) not in (1, 2) or min(numbers) < 1:
        raise UsageError(f"--first must be heads:N or heads:N:M with whole numbers from 1 up, got {text!r}")
    return First(*numbers)


def check_first(space: SearchSpace, first: str) -> None:
    """Refuse a stage that can't be run before this space. Raises UsageError and SpaceError."""
    if first:
        parse_first(first)
        heads_space(space)


def check_heads_folder(folder: SearchFolder) -> None:
    """Refuse a new search beside which its head-only one would find no place.

    Raises:
        UsageError: the name of the head-only search would be too long.
        OutputError: the storage can't be written.
        SearchError: there is something of that name.
    """
    heads = folder.heads
    if len(heads.name) > MAX_NAME:
        longest = MAX_NAME - len(heads.name) + len(folder.name)
        raise UsageError(
            f"name must have at most {longest} characters with --first, got {len(folder.name)}: {folder.name!r}"
        )
    if (heads.path / MANIFEST_FILE).exists():
        raise SearchError(
            f"search {heads.name!r}, which --first would begin, is there already: {heads.path}; "
            "choose another --name, or remove it"
        )
    create_folder(heads.path.parent, heads.name)


def heads_space(space: SearchSpace) -> SearchSpace:
    """Of a space, what a head on a frozen backbone can tell about; all else stands at its default.

    Raises:
        SpaceError: nothing would vary, or the space's networks can't be trained as heads alone.
    """
    default = space.default()
    mute = [each for each in space.parameters if not _acts_on_heads(each)]
    settled = {each.name: default.get(each.name, each.default) for each in mute}
    where = "--first heads"
    try:
        heads = replace(space, points=())
        for name, value in settled.items():
            if any(each.name == name for each in heads.parameters):  # settling another may have removed it
                heads = heads.fix({name: value}, where=where)
        heads = heads.fix(HEAD_ONLY, where=where)
        acting = {name: value for name, value in heads.fixed.items() if name not in BACKBONE_SETTINGS}
        heads = replace(heads, fixed=acting, description=f"heads alone, before a search of {space.name}")
    except SpaceError as error:
        raise SpaceError(f"space can't be searched by heads first, {error}") from error
    if not heads.parameters:
        raise SpaceError(
            f"space must vary something that a head can tell about, got none: space {space.name}; leave --first out"
        )
    return heads


def choose_points(space: SearchSpace, heads: SearchSpace, records: Sequence[TrialRecord], *, n: int) -> HandedOver:
    """The best head-only settings as points of the full space: each backbone's best in turn, the default's first.

    Args:
        space: the full one; what a head can't tell about is at its default.
        heads: the head-only one.
        records: of the head-only search, whose name is its folder's.
        n: at most.
    """
    by_backbone: dict[str, list[TrialRecord]] = {}
    first = str(space.to_config(space.default()).model.backbone)
    by_backbone[first] = []
    for record in usable(records):
        by_backbone.setdefault(str(record.config["model.backbone"]), []).append(record)
    points: list[dict[str, Any]] = []
    known = [space.default()]
    for place in range(max(map(len, by_backbone.values()), default=0)):
        for ranked in by_backbone.values():
            if place < len(ranked) and len(points) < n:
                values = point_of(space, ranked[place].values)
                if space.complete(values) not in known:
                    known.append(space.complete(values))
                    points.append(
                        {"trial": ranked[place].trial_id, "macro_f1": ranked[place].best_macro_f1, "values": values}
                    )
    return HandedOver(search="", points=tuple(points))


def point_of(space: SearchSpace, values: Mapping[str, Any]) -> dict[str, Any]:
    """A head-only trial's values as a point of the full space: without those that are not active there."""
    known = {each.name for each in space.parameters}
    given = {name: value for name, value in values.items() if name in known}
    active = space.complete(given)
    return {name: value for name, value in given.items() if name in active}


def with_points(space: SearchSpace, handed: HandedOver) -> SearchSpace:
    """The space with what was handed over as its first points; the same space where that has been done."""
    points = [space.complete(point["values"]) for point in handed.points]
    own = [point for point in space.points if space.complete(point) not in points]
    return replace(space, points=(*(dict(point["values"]) for point in handed.points), *own))


def write_handed(folder: SearchFolder, handed: HandedOver) -> None:
    """Replace first.json."""
    write_text(folder.path / FIRST_FILE, json.dumps(asdict(handed), indent=2) + "\n")


def read_handed(folder: SearchFolder) -> HandedOver | None:
    """What was handed over; None where nothing was yet.

    Raises:
        SearchError: first.json is broken.
    """
    path = folder.path / FIRST_FILE
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        return HandedOver(**{**document, "points": tuple(document["points"])})
    except FileNotFoundError:
        return None
    except (ValueError, TypeError, KeyError) as error:
        raise SearchError(f"{FIRST_FILE} could not be read, {error}: {folder.path}") from error


def _acts_on_heads(parameter: Parameter) -> bool:
    return set(parameter.setting_names) <= set(HEAD_SETTINGS) and "train.head_epochs" not in parameter.setting_names
