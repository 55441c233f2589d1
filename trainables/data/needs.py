"""Which labels beside the expression a config needs, and whether a table has them."""

from collections.abc import Mapping
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from spaces.config import TrialConfig
from spaces.errors import ConfigError, DataError
from trainables.data.labels import LABEL_COLUMNS
from trainables.data.table import FaceTable, Split
from trainables.hand_tuning import MOST_CLASSES

COLUMNS_OF: Mapping[str, tuple[str, ...]] = {
    "valence_arousal": ("valence", "arousal"),
    "action_units": ("action_units",),
    "landmarks": ("landmarks",),
    "hand": ("hand",),
}
"""Target of a batch to the columns of the table that it is made of."""


_found: WeakKeyDictionary[FaceTable, set[Any]] = WeakKeyDictionary()
"""What each open table was found to have, so that a hundred trials on it do not look a hundred times."""


def needed_labels(config: TrialConfig) -> dict[str, str]:
    """Targets that a config's losses need beside the expression, each with the setting that asks for it."""
    needed: dict[str, str] = {}
    if config.affect.heads != "none" and config.loss.va_weight:
        needed["valence_arousal"] = f"affect.heads is {config.affect.heads!r}"
    if config.affect.heads == "separate" and config.loss.unit_weight:
        needed["action_units"] = "affect.heads is 'separate' and loss.unit_weight is above 0"
    if config.loss.landmark_weight:
        needed["landmarks"] = "loss.landmark_weight is above 0"
    if config.hand.backbone != "none" and config.loss.hand_weight:
        needed["hand"] = f"hand.backbone is {config.hand.backbone!r}"
    return needed


def check_labels(config: TrialConfig, table: FaceTable) -> None:
    """See that a table has what a config needs, before anything is trained. An open table is looked at once a need.

    Raises:
        DataError: no valid face has an expression, a label that a setting needs is known on no training face, or
            landmarks lie outside the image.
        ConfigError: the hand rule names a class that the table does not have.
    """
    needs = (tuple(sorted(needed_labels(config).items())), config.hand)
    found = _found.setdefault(table, set())
    if needs not in found:
        _look_for_labels(config, table)
        found.add(needs)


def _look_for_labels(config: TrialConfig, table: FaceTable) -> None:
    split, valid = table.split("train"), table.split("valid")
    if not (valid.expression >= 0).any():
        raise DataError(f"valid split must have labelled faces, got 0 of {len(valid)}: {table.path}")
    for target, reason in needed_labels(config).items():
        for column in COLUMNS_OF[target]:
            _check_known(split, column, reason=reason, table=table)
    if config.loss.landmark_weight:
        for name in ("train", "valid"):
            _check_landmarks(table.split(name), table)
    if config.hand.rule != "none":
        _check_rule(config, table)


def labelled_otherwise(split: Split, config: TrialConfig) -> NDArray[np.int64]:
    """Rows without an expression on which some other label is known that the config needs."""
    rows = np.flatnonzero(split.expression < 0).astype(np.int64)
    known = np.zeros(len(rows), dtype=bool)
    for target in needed_labels(config) if len(rows) else ():
        for column in COLUMNS_OF[target]:
            values = split.column(column)
            if values is not None:
                known |= LABEL_COLUMNS[column].is_known(values[rows])
    return rows[known]


def _check_known(split: Split, column: str, *, reason: str, table: FaceTable) -> None:
    values = split.column(column)
    if values is None or not LABEL_COLUMNS[column].is_known(values).any():
        got = "no such column" if values is None else f"none of {len(split)}"
        raise DataError(
            f"column {column!r} must be known on training faces where {reason}, got {got}: {table.path}; "
            "`affectune data ingest` takes it from a CSV or Parquet source, `affectune data synth` draws faces with it"
        )


def _check_landmarks(split: Split, table: FaceTable) -> None:
    points = split.column("landmarks")
    if points is None:
        return
    outside = np.flatnonzero(((points < 0) | (points > 1)).any(axis=1))  # NaN, not known, is neither
    if len(outside):
        worst = points[outside[0]]
        worst = worst[(worst < 0) | (worst > 1)][0]
        raise DataError(
            f"landmarks must lie within 0..1 of the image where loss.landmark_weight is above 0, got {worst:g} "
            f"for {split.sample_ids[outside[0]]!r} ({len(outside)} of {len(split)} faces of {split.name}): {table.path}"
        )


def _check_rule(config: TrialConfig, table: FaceTable) -> None:
    classes = ", ".join(table.info.classes)
    for setting, names in (("hand.target", (config.hand.target,)), ("hand.exceptions", config.hand.exception_names)):
        for name in names:
            if name not in table.info.classes:
                raise ConfigError(f"{setting} must name classes of the table ({classes}), got {name!r}: {table.path}")
    if config.hand.rule == "tune_all" and len(table.info.classes) > MOST_CLASSES:
        n_classes = len(table.info.classes)
        rule = f"must not be tune_all, which tries every set of exceptions, with more than {MOST_CLASSES} classes"
        raise ConfigError(f"hand.rule {rule}, got {n_classes}: {table.path}; tune_threshold has no such limit")
