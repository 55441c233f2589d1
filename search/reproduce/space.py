"""From a table's rows to one search space: the option `row` bundles what a row sets, and every row is a point."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from search.prelaunch import check_launch
from search.reproduce.tables import Row, Table, Train
from spaces.config import TrialConfig, Value, check_field_name
from spaces.domains import Choice, choice_of_bundles
from spaces.errors import BackboneError, DataError, ModelError, UsageError, near_miss
from spaces.fixing import parse_fixes
from spaces.loading import load_space
from spaces.parameters import Parameter
from spaces.space import SearchSpace
from trainables.checkpoint import load_spec
from trainables.data.classes import usual_word
from trainables.data.table import FaceTable

ROW = "row"
SEED = "train.seed"
MEMBER_STEP = 1000
"""How far a member's seed is from the one before it."""

WEIGHTS = "loss.class_weights"


@dataclass(frozen=True)
class Wishes:
    """What the user wants of the rows.

    Attributes:
        fixes: setting to value, over everything that a row does not set itself.
        row_fixes: key of a row to settings over all of its own.
        epochs: of every row that trains all weights, and at most of head-only epochs; None leaves the table's.
        n_seeds: repetitions of each row.
        seed: of the first.
        start: a saved model that rows go on from; None for none.
    """

    fixes: Mapping[str, Any] = field(default_factory=dict)
    row_fixes: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    epochs: int | None = None
    n_seeds: int = 1
    seed: int = 0
    start: Path | None = None


@dataclass(frozen=True)
class RowSpace:
    """The search that runs a table's rows.

    Attributes:
        space: its points are the trials, in order.
        values: of the trial of a row's repetition, by key and number from 0; rows with equal settings share one.
        not_run: why a row is no trial, as a phrase.
    """

    space: SearchSpace
    values: Mapping[tuple[str, int], Mapping[str, Value]]
    not_run: Mapping[str, str]

    @property
    def n_trials(self) -> int:
        """How many trials there are."""
        return len(self.space.initial_points())


def parse_row_fixes(texts: Sequence[str], table: Table) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """What `KEY=VALUE` and `ROW:KEY=VALUE` say: settings of all rows, and of single ones.

    Raises:
        UsageError: a word is neither, or names no trained row.
        ConfigError: a setting is unknown, or a file is not there.
    """
    everywhere: list[str] = []
    by_row: dict[str, list[str]] = {}
    keys = [row.key for row in table.trained]
    for text in texts:
        row, colon, rest = text.partition(":")
        if not colon or "=" in row:
            everywhere.append(text)
        elif row not in keys:
            raise UsageError(f"--fix must name a trained row of the table, got {row!r}{near_miss(row, keys)}")
        else:
            by_row.setdefault(row, []).append(rest)
    parsed = {row: _parsed(rest) for row, rest in by_row.items()}
    return _parsed(everywhere), parsed


def row_settings(
    row: Row, table: Table, wishes: Wishes, *, classes: Sequence[str], labels: Sequence[str]
) -> TrialConfig:
    """The complete config of a trained row: preset, table, --fix, the row, --fix of the row, epochs; later ones count.

    Args:
        row: of the table, trained.
        table: of a paper.
        wishes: of the user.
        classes: of the face table.
        labels: optional labels that the face table has.

    Raises:
        ConfigError: settings contradict each other.
        SpaceError: the preset makes no sense.
    """
    own = {**_preset_settings(table.preset), **table.settings, **wishes.fixes, **_own_settings(row, wishes, labels)}
    own |= wishes.row_fixes.get(row.key, {})
    if isinstance(own.get(WEIGHTS), Mapping):
        own[WEIGHTS] = _weights_by_class(own[WEIGHTS], classes)
    config = TrialConfig.from_flat(own, where=f"row {row.key!r} of table {table.number}")
    return _with_epochs(config, wishes.epochs)


def labels_of(faces: FaceTable) -> list[str]:
    """Optional labels that a face table has for some training face."""
    return [name for name, count in faces.info.labels.get("train", {}).items() if count]


def left_alone(table: Table, wishes: Wishes, *, labels: Sequence[str]) -> dict[str, list[str]]:
    """Settings of --fix that do not reach some rows, with those rows: they set them themselves."""
    own = {row.key: _own_settings(row, wishes, labels) for row in table.trained}
    found = {name: [key for key, settings in own.items() if name in settings] for name in wishes.fixes}
    return {name: keys for name, keys in found.items() if keys}


def build_row_space(table: Table, faces: FaceTable, wishes: Wishes, *, name: str, description: str) -> RowSpace:
    """The space of a table's rows on a face table.

    Args:
        table: of a paper.
        faces: rows that ask for labels which it lacks, or for weights that can't be had, are left out with the reason.
        wishes: of the user.
        name: of the space.
        description: of the space.

    Raises:
        UsageError: --fix names what every row sets itself, or train.seed; or --start is of no use to the table.
        ConfigError, SpaceError: settings make no config.
        ModelError, DataError: no row can be run, or none that goes on from --start; the first one's reason.
    """
    labels = labels_of(faces)
    _check_wishes(table, wishes, labels)
    configs: dict[str, dict[str, Value]] = {}
    not_run: dict[str, str] = {}
    errors: dict[str, DataError | ModelError] = {}
    for row in table.trained:
        if _train(row).start == "needed" and wishes.start is None:
            not_run[row.key] = "not run: needs a pre-trained model, --start FILE"
            continue
        config = row_settings(row, table, wishes, classes=faces.info.classes, labels=labels).to_flat()
        try:
            check_launch(SearchSpace(name=name, fixed=config), faces)
            _check_joint(row, wishes)
        except BackboneError:
            raise
        except (ModelError, DataError) as error:
            errors[row.key] = error
            not_run[row.key] = f"not run: {error}"
            continue
        configs[row.key] = config
    started = [] if wishes.start is None else [row.key for row in table.trained if _train(row).start != "none"]
    for keys in (started, list(errors) if not configs else []):
        if keys and all(key in errors for key in keys):
            raise errors[keys[0]]
    if not configs:
        raise UsageError(f"table {table.number} needs a pre-trained model for each of its rows, got none; give --start")
    return RowSpace(*_space(table, configs, wishes, name=name, description=description), not_run=not_run)


def _space(
    table: Table, configs: Mapping[str, dict[str, Value]], wishes: Wishes, *, name: str, description: str
) -> tuple[SearchSpace, dict[tuple[str, int], Mapping[str, Value]]]:
    first = next(iter(configs.values()))
    common = {key: value for key, value in first.items() if all(each[key] == value for each in configs.values())}
    common.pop(SEED, None)
    options: dict[frozenset[tuple[str, Value]], str] = {}
    bundles: dict[str, dict[str, Value]] = {}
    values: dict[tuple[str, int], Mapping[str, Value]] = {}
    for key, config in configs.items():
        own = {setting: value for setting, value in config.items() if setting not in common and setting != SEED}
        option = options.setdefault(frozenset(own.items()), key)
        bundles.setdefault(option, own)
        for repetition in range(wishes.n_seeds):
            member = _train(table.row(key)).member
            values[key, repetition] = {ROW: option, SEED: wishes.seed + repetition + MEMBER_STEP * member}
    points = tuple(dict(point) for point in values.values())
    seeds = Choice(tuple(dict.fromkeys(point[SEED] for point in points)))
    space = SearchSpace(
        name=name,
        description=description,
        fixed=common,
        parameters=(
            Parameter(ROW, choice_of_bundles(bundles), default=points[0][ROW]),
            Parameter(SEED, seeds, default=points[0][SEED]),
        ),
        points=points[1:],
    )
    return space, values


@cache
def _preset_settings(preset: str) -> Mapping[str, Value]:
    """What a preset gives trial 0."""
    space = load_space(preset)
    return space.to_settings(space.default())


def _train(row: Row) -> Train:
    assert row.train is not None, "asked of trained rows alone"
    return row.train


def _check_joint(row: Row, wishes: Wishes) -> None:
    if (
        wishes.start is not None
        and _train(row).joint_start
        and load_spec(wishes.start.expanduser()).design.affect == "none"
    ):
        raise ModelError(f"--start must have joint heads for valence and arousal, got a model without: {wishes.start}")


def _own_settings(row: Row, wishes: Wishes, labels: Sequence[str]) -> dict[str, Any]:
    """What a row sets itself, which --fix does not reach."""
    train = _train(row)
    own = dict(train.settings)
    for label, settings in train.labelled.items():
        if label in labels:
            own |= settings
    if wishes.start is not None and train.start != "none":
        start = wishes.start.expanduser().absolute()  # the workers stand in another folder
        own |= {"model.start": str(start), "model.weights": "none", **train.started}
    return own


def _weights_by_class(weights: Mapping[str, float], classes: Sequence[str]) -> tuple[float, ...]:
    return tuple(float(weights.get(usual_word(name), 1.0)) for name in classes)


def _with_epochs(config: TrialConfig, epochs: int | None) -> TrialConfig:
    if epochs is None:
        return config
    train = config.train
    shorter = {"train.epochs": min(train.epochs, 1) * epochs, "train.head_epochs": min(train.head_epochs, epochs)}
    return config.with_settings(shorter)


def _parsed(texts: Sequence[str]) -> dict[str, Any]:
    fixes = parse_fixes(texts)
    for name in fixes:
        check_field_name(name, where="--fix")
    return fixes


def _check_wishes(table: Table, wishes: Wishes, labels: Sequence[str]) -> None:
    for fixes in (wishes.fixes, *wishes.row_fixes.values()):
        if SEED in fixes:
            raise UsageError(f"--fix must leave {SEED} to --seed and --seeds, got {SEED}={fixes[SEED]}")
    for name, keys in left_alone(table, wishes, labels=labels).items():
        if len(keys) == len(table.trained):
            rule = f"--fix must be of what rows leave open, got {name}, which every row of table {table.number} sets"
            raise UsageError(f"{rule}; {table.trained[0].key}:{name}=VALUE fixes it in one row")
    if wishes.start is not None and all(_train(row).start == "none" for row in table.trained):
        raise UsageError(f"--start must be of use to a row of table {table.number}, got {wishes.start}; leave it out")
