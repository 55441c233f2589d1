"""What is checked before the first worker starts: all that would otherwise fail in every trial."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from search.folder import SearchManifest
from search.named_table import open_named_table
from spaces.checks import activating_values
from spaces.config import TrialConfig
from spaces.domains import Choice
from spaces.errors import DataError, SearchError
from spaces.parameters import Parameter
from spaces.space import SearchSpace
from trainables.data.needs import check_labels
from trainables.data.table import FaceTable
from trainables.embeddings.cache import default_cache
from trainables.losses.class_weights import class_weights
from trainables.models.backbones import check_size
from trainables.models.partner import check_partner
from trainables.models.start import check_start
from trainables.models.weights import check_weights


def check_launch(space: SearchSpace, table: FaceTable) -> None:
    """Try the settings that name things against the things: backbones, weights files, saved models, classes, labels.

    Raises:
        ModelError: a backbone, its size of images, a weights file or a partner does not fit; file and keys are named.
        ConfigError: a list of class weights has the wrong length, or a rule names a class that is not there.
        DataError: the table can't be trained on, or lacks a label that a setting needs.
        UsageError: a variable that says how embeddings are kept makes no sense.
    """
    default_cache()
    counts = table.info.class_counts
    for name in ("train", "valid"):
        if sum(counts[name]) == 0:
            raise DataError(f"split {name!r} must have labelled faces, got 0: {table.path}")
    for name, n_faces in zip(table.info.classes, counts["train"], strict=True):
        if not n_faces:
            raise DataError(
                f"class {name!r} must have a training face, got 0: {table.path}; ingest again with --classes without it"
            )
    checked: set[tuple[str, str, str, int]] = set()
    for config in iter_representatives(space):
        class_weights(np.asarray(counts["train"]), config.loss)
        check_labels(config, table)
        image_px = config.model.image_px or table.info.image_px
        for setting, backbone, weights in networks_of(config):
            if (setting, backbone, weights, image_px) not in checked:
                checked.add((setting, backbone, weights, image_px))
                check_weights(backbone=backbone, weights=weights, setting=setting)
                check_size(backbone=backbone, image_px=image_px, setting=setting)
        if config.model.start != "none":
            check_start(Path(config.model.start).expanduser(), backbone=config.model.backbone)
        if config.blend.partner not in ("none", "head"):
            check_partner(Path(config.blend.partner).expanduser(), table.info.classes)


def check_networks(space: SearchSpace) -> None:
    """Try backbones and weights files of a space against each other, without a table; nothing is fetched.

    Raises:
        ModelError: timm has no such backbone, or a weights file does not fit; the keys are named.
    """
    networks = {network for config in iter_representatives(space) for network in networks_of(config)}
    for setting, backbone, weights in sorted(networks):
        check_weights(backbone=backbone, weights="none" if weights == "hub" else weights, setting=setting)


def networks_of(config: TrialConfig) -> list[tuple[str, str, str]]:
    """The backbones that a config builds: the setting that names each, its name, and where its weights come from."""
    branches, hand = config.branches, config.hand
    found = [("model.backbone", config.model.backbone, config.model.weights)]
    if config.model.encoder == "two_branch":
        found.append(("branches.appearance_backbone", branches.appearance_backbone, branches.appearance_weights))
    if hand.backbone != "none":
        found.append(("hand.backbone", hand.backbone, hand.weights))
    return found


def iter_representatives(space: SearchSpace) -> Iterator[TrialConfig]:
    """The default, the points, and the default with each option of each choice in turn, made active where need be."""
    for values in space.initial_points():
        yield space.to_config(values)
    for parameter in space.parameters:
        if isinstance(parameter.domain, Choice):
            yield from _iter_values(space, parameter)


def iter_extremes(space: SearchSpace) -> Iterator[TrialConfig]:
    """The representatives, and the default with the ends of each range in turn."""
    yield from iter_representatives(space)
    for parameter in space.parameters:
        if not isinstance(parameter.domain, Choice):
            yield from _iter_values(space, parameter)


def _iter_values(space: SearchSpace, parameter: Parameter) -> Iterator[TrialConfig]:
    values = {**space.default(), **activating_values(space.parameters, parameter)}
    for value in parameter.domain.probes():
        yield space.to_config({**values, parameter.name: value})


def open_same_table(manifest: SearchManifest) -> FaceTable:
    """The face table of a search.

    Raises:
        SearchError: it has changed.
        DataError, OutputError, UsageError: it is gone, or can't be copied; as for `open_named_table`.
    """
    table = open_named_table(manifest.data, content_hash=manifest.content_hash)
    if table.info.content_hash != manifest.content_hash:
        raise SearchError(
            f"face table must be the one that was searched on ({manifest.content_hash[:12]}), "
            f"got {table.info.content_hash[:12]}: {manifest.data}"
        )
    return table
