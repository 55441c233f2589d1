"""What a trial trains with, from its config and its table: faces in their numbers, the loss, what takes the steps."""

from collections.abc import Callable
from functools import partial

import numpy as np
import numpy.typing as npt
import torch

from spaces.config import TrialConfig
from spaces.errors import DataError
from trainables.checkpoint import NetworkSpec
from trainables.data.augment import Augmenter
from trainables.data.batches import EpochBatches, split_targets
from trainables.data.loader import MakeBatches
from trainables.data.needs import labelled_otherwise, needed_labels
from trainables.data.sampling import Items, check_labelled, stratified_subsample, subject_subsample, training_items
from trainables.data.table import FaceTable, Split
from trainables.embeddings.cache import EmbeddingCache
from trainables.frozen_memory import FrozenMemory, KeptTwin
from trainables.gpu_profile import compiles, load_profile
from trainables.losses.total import TrialLoss
from trainables.models.architectures.deviation import DeviationEncoder
from trainables.models.architectures.network import ExpressionNetwork
from trainables.stepper import Stepper, arithmetic

Rows = npt.NDArray[np.int64]


def choose_items(split: Split, config: TrialConfig) -> Items:
    """The subsample, in the numbers of the sampler; faces without an expression that other losses need, too.

    Raises:
        DataError: no face has an expression.
    """
    choose = SUBSAMPLES[config.data.subsample_by]
    rows = choose(split, labelled_otherwise(split, config), ratio=config.data.subsample_ratio, seed=config.train.seed)
    return training_items(split.expression, rows, sampler=config.data.sampler)


def _subsample_by_faces(split: Split, others: Rows, *, ratio: float, seed: int) -> Rows:
    rows = stratified_subsample(split.expression, ratio=ratio, seed=seed)
    others = np.random.default_rng([seed, 0x07E5]).permutation(others)[: round(ratio * len(others))]
    return np.sort(np.concatenate([rows, others]))


def _subsample_by_subjects(split: Split, others: Rows, *, ratio: float, seed: int) -> Rows:
    """Faces without an expression are one class more, so that no subject is cut."""
    check_labelled(split.expression)
    labelled = np.flatnonzero(split.expression >= 0)
    rows = np.sort(np.concatenate([labelled, others]))
    subjects = [split.subjects[row] for row in rows]
    return rows[subject_subsample(split.expression[rows], subjects, ratio=ratio, seed=seed)]


SUBSAMPLES: dict[str, Callable[..., Rows]] = {"faces": _subsample_by_faces, "subjects": _subsample_by_subjects}
"""By the setting `data.subsample_by`: from a split, its rows without an expression that are needed, a ratio and a seed
to the rows of a subsample, ascending."""


def batch_maker(split: Split, items: Items, augmenter: Augmenter, config: TrialConfig) -> MakeBatches:
    """What makes an epoch's batches from its number, in whichever process."""
    return partial(
        EpochBatches,
        split,
        items,
        augmenter,
        sampler=config.data.sampler,
        sampler_power=config.data.sampler_power,
        batch_size=config.train.batch_size,
        seed=config.train.seed,
        labels=tuple(needed_labels(config)),
        two_views=config.model.encoder == "two_branch",
    )


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


def build_stepper(
    network: ExpressionNetwork,
    spec: NetworkSpec,
    *,
    loss: TrialLoss,
    config: TrialConfig,
    table: FaceTable,
    items: Items,
    augmenter: Augmenter,
    n_batches: int,
    embeddings: EmbeddingCache | None,
    deadline_s: float | None,
) -> tuple[Stepper, FrozenMemory | None]:
    """What takes the steps of a trial, and the memory of a frozen twin that it uses, where it has one.

    Args:
        network: on the device where it is trained.
        spec: of the network.
        loss: on the same device.
        config: of the trial.
        table: whose faces it trains on.
        items: of the trial.
        augmenter: of its faces.
        n_batches: of an epoch.
        embeddings: where those of encoders that stand still are kept, and measurements of GPUs; None keeps none.
        deadline_s: Unix time by which the trial must have ended.
    """
    device = next(network.parameters()).device
    looks_the_same = augmenter.is_idle and config.augment.mix != "mixup"
    kept, profile = None, None
    if embeddings is not None:
        profile = load_profile(config, table.info, device, cache=embeddings.folder)
        if arithmetic(config, device) is torch.float32:
            kept = KeptTwin(embeddings, table, spec, items, until_s=deadline_s)
    memory = build_memory(network.encoder, n_items=len(items), is_offline=looks_the_same, kept=kept)
    is_worth = compiles(config, profile, n_steps=n_batches * config.train.epochs, deadline_s=deadline_s)
    return Stepper(network, spec, loss=loss, config=config, memory=memory, compiles=is_worth), memory


def _count_units(split: Split, rows: Rows) -> Rows:
    """[12, 2]: faces without and with each action unit."""
    units = split_targets(split, rows, ("action_units",))["action_units"].numpy()  # [rows, 12]
    return np.stack([(units == value).sum(axis=0) for value in (0, 1)], axis=1).astype(np.int64)
