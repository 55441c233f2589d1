"""What a trial trains with, from its config and its table: faces in their numbers, the loss, the memory of a twin."""

import numpy as np
import numpy.typing as npt
import torch

from spaces.config import TrialConfig
from spaces.errors import DataError
from trainables.data.batches import split_targets
from trainables.data.needs import labelled_otherwise, needed_labels
from trainables.data.sampling import Items, stratified_subsample, training_items
from trainables.data.table import Split
from trainables.frozen_memory import FrozenMemory, KeptTwin
from trainables.losses.total import TrialLoss
from trainables.models.architectures.deviation import DeviationEncoder


def choose_items(split: Split, config: TrialConfig) -> Items:
    """The subsample, in the numbers of the sampler; faces without an expression that other losses need, too."""
    seed, ratio = config.train.seed, config.data.subsample_ratio
    rows = stratified_subsample(split.expression, ratio=ratio, seed=seed)
    others = labelled_otherwise(split, config)
    others = np.random.default_rng([seed, 0x07E5]).permutation(others)[: round(ratio * len(others))]
    rows = np.sort(np.concatenate([rows, others]))
    return training_items(split.expression, rows, sampler=config.data.sampler)


def build_loss(config: TrialConfig, split: Split, items: Items, *, n_classes: int, feature_width: int) -> TrialLoss:
    """The loss, its weights counted on the faces of the subsample, each once.

    Raises:
        DataError: fewer than two faces have an expression.
        ConfigError: a list of class weights has another length than the classes.
    """
    rows = np.unique(items.rows)
    labels = split.expression[rows]
    counts = np.bincount(labels[labels >= 0], minlength=n_classes).astype(np.int64)
    if counts.sum() < 2:
        raise DataError(f"train split must have at least 2 labelled faces, got {counts.sum()}")
    unit_counts = _count_units(split, rows) if "action_units" in needed_labels(config) else None
    return TrialLoss(config, class_counts=counts, feature_width=feature_width, unit_counts=unit_counts)


def build_memory(
    encoder: torch.nn.Module, *, n_items: int, is_offline: bool, kept: KeptTwin | None = None
) -> FrozenMemory | None:
    """A memory of a deviation module's frozen twin, where faces look the same in every epoch and it fits."""
    if not isinstance(encoder, DeviationEncoder) or not is_offline or not FrozenMemory.fits(encoder, n_items):
        return None
    return FrozenMemory(encoder, n_items, kept=kept)


def _count_units(split: Split, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """[12, 2]: faces without and with each action unit."""
    units = split_targets(split, rows, ("action_units",))["action_units"].numpy()  # [rows, 12]
    return np.stack([(units == value).sum(axis=0) for value in (0, 1)], axis=1).astype(np.int64)
