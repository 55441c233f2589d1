"""What is checked before the first worker starts: all that would otherwise fail in every trial."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from search.folder import SearchManifest
from spaces.config import TrialConfig
from spaces.domains import Choice
from spaces.errors import DataError, SearchError
from spaces.space import SearchSpace
from trainables.data.table import FaceTable, open_table
from trainables.losses import class_weights
from trainables.models.backbones import check_size, check_weights
from trainables.models.partner import check_partner


def check_launch(space: SearchSpace, table: FaceTable) -> None:
    """Try the settings that name things against the things: backbones, weights files, partners, class weights.

    Raises:
        ModelError: a backbone, its size of images, a weights file or a partner does not fit; file and keys are named.
        ConfigError: a list of class weights has the wrong length.
        DataError: the table can't be trained on.
    """
    counts = table.info.class_counts
    for name in ("train", "valid"):
        if sum(counts[name]) == 0:
            raise DataError(f"split {name!r} must have labelled faces, got 0: {table.path}")
    checked: set[tuple[str, str, int]] = set()
    for config in iter_representatives(space):
        class_weights(np.asarray(counts["train"]), config.loss)
        model = (config.model.backbone, config.model.weights, config.model.image_px or table.info.image_px)
        if model not in checked:
            checked.add(model)
            check_weights(backbone=model[0], weights=model[1])
            check_size(backbone=model[0], image_px=model[2])
        if config.blend.partner not in ("none", "head"):
            check_partner(Path(config.blend.partner).expanduser(), table.info.classes)


def check_networks(space: SearchSpace) -> None:
    """Try backbones and weights files of a space against each other, without a table; nothing is fetched.

    Raises:
        ModelError: timm has no such backbone, or a weights file does not fit; the keys are named.
    """
    pairs = {(config.model.backbone, config.model.weights) for config in iter_representatives(space)}
    for backbone, weights in sorted(pairs):
        check_weights(backbone=backbone, weights="none" if weights == "hub" else weights)


def iter_representatives(space: SearchSpace) -> Iterator[TrialConfig]:
    """The default, the points, and the default with each option of each choice in turn."""
    points = space.initial_points()
    for values in points:
        yield space.to_config(values)
    for parameter in space.parameters:
        if isinstance(parameter.domain, Choice):
            for option in parameter.domain.values:
                yield space.to_config({**points[0], parameter.name: option})


def open_same_table(manifest: SearchManifest) -> FaceTable:
    """The face table of a search. Raises DataError where it is gone, SearchError where it has changed."""
    table = open_table(Path(manifest.data))
    if table.info.content_hash != manifest.content_hash:
        raise SearchError(
            f"face table must be the one that was searched on ({manifest.content_hash[:12]}), "
            f"got {table.info.content_hash[:12]}: {table.path}"
        )
    return table
