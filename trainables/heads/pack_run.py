"""A pack of head-only trials from its order to their ends: what Tune's trainable drives, a few trials at a time."""

import gc
import json
import tempfile
import time
import traceback
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from spaces.config import TrialConfig
from spaces.errors import AffectuneError, ConfigError
from trainables.checkpoint import NetworkSpec, save_network, state_on_cpu
from trainables.data.table import FaceTable, open_table
from trainables.device import check_device
from trainables.embeddings.cache import EmbeddingCache, default_cache
from trainables.embeddings.compute import embed_faces, predict_embedded, valid_embeddings
from trainables.embeddings.encoder import FrozenEncoder
from trainables.embeddings.faces import View
from trainables.heads.engine import HeadTask, Tensors, TrainedHead, train_together
from trainables.heads.settings import why_not_packable
from trainables.models.architectures.network import ExpressionNetwork
from trainables.models.build import build_trial_network
from trainables.models.partner import partner_logits
from trainables.outputs import write_text
from trainables.preparation import build_loss, choose_items
from trainables.randomness import seeded
from trainables.scores import Scores, save_scores
from trainables.scoring import Scored, ValidScorer
from trainables.trainer import SCORES_FILE, WEIGHTS_FILE, EpochReport

ERROR_FILE = "error.txt"
WARM_NETWORKS = 2
"""That a worker remembers from one pack to the next."""

_warm: "OrderedDict[str, tuple[ExpressionNetwork, NetworkSpec]]" = OrderedDict()


@dataclass(frozen=True)
class PackedTrial:
    """One trial of a pack.

    Attributes:
        trial_id: of the trial.
        settings: the complete config, flat.
        folder: where its scores and weights go.
    """

    trial_id: str
    settings: dict[str, Any]
    folder: str


@dataclass(frozen=True)
class PackOrder:
    """What a worker is told to do.

    Attributes:
        pack_id: of the pack.
        trials: in the order of their proposal.
        table: folder of the face table.
        device: `cpu` or `cuda`.
        n_threads: of the processor.
        keep_weights: weights are written of at most so many of the pack's best trials.
        weights_above: and only of those with a higher macro-F1 than this.
        keep_always: ids of trials whose weights are written in any case.
        deadline_s: Unix time after which no further trials of the pack are begun; those are not reported.
    """

    pack_id: str
    trials: tuple[PackedTrial, ...]
    table: str
    device: str = "cpu"
    n_threads: int = 1
    keep_weights: int = 12
    weights_above: float = -1.0
    keep_always: tuple[str, ...] = ()
    deadline_s: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for a scheduler's config."""
        return asdict(self)

    @classmethod
    def from_dict(cls, told: Mapping[str, Any]) -> "PackOrder":
        """The order that `to_dict` told."""
        trials = tuple(PackedTrial(**trial) for trial in told["trials"])
        return cls(**{**told, "trials": trials, "keep_always": tuple(told["keep_always"])})


class PackRun:
    """A pack in progress. An error in some trials becomes their end, never the worker's."""

    def __init__(self, order: PackOrder) -> None:
        torch.set_num_threads(order.n_threads)
        self._order = order
        self._device = check_device(order.device)
        self._groups = _groups(order.trials)
        self._kept = _Kept(order)
        self._own_cache: tempfile.TemporaryDirectory[str] | None = None
        self._cache = default_cache() or self._cache_for_now()

    def step(self) -> dict[str, Any]:
        """Train the trials of one network to their ends.

        Returns:
            `reports`: each trial's last report, as the trainer gives it, by id; its `end` is `completed`, `diverged`
            or `failed` with the error's text under `error`. `end`: `completed` with the last ones, else empty.
        """
        reports: dict[str, EpochReport] = {}
        is_late = self._order.deadline_s is not None and time.time() > self._order.deadline_s
        if self._groups and not is_late:
            trials = self._groups.pop(0)
            try:
                reports = self._run(trials)
            except Exception as error:
                reports = {trial.trial_id: _failure(trial, error) for trial in trials}
        return {"reports": reports, "end": "completed" if is_late or not self._groups else ""}

    def release(self) -> None:
        """Let go of what the pack held; the worker's networks stay warm on a CPU."""
        self._groups = []
        if self._own_cache is not None:
            self._own_cache.cleanup()
        if self._device.type == "cuda":
            _warm.clear()
            gc.collect()
            torch.cuda.empty_cache()

    def _cache_for_now(self) -> EmbeddingCache:
        """Where no cache is wanted: one for as long as this pack runs."""
        self._own_cache = tempfile.TemporaryDirectory(prefix="affectune-pack-")
        return EmbeddingCache(Path(self._own_cache.name), max_bytes=2**50)

    def _run(self, trials: Sequence[PackedTrial]) -> dict[str, EpochReport]:
        started_s = time.perf_counter()
        table = open_table(Path(self._order.table))
        configs = [TrialConfig.from_flat(trial.settings) for trial in trials]
        for config in configs:
            if why_not_packable(config):
                raise ConfigError(f"a trial in a pack must train a head alone, got {why_not_packable(config)}")
        scored = _score_together(configs, table, device=self._device, cache=self._cache)
        share_s = (time.perf_counter() - started_s) / len(trials)
        reports = {}
        for trial, one in sorted(zip(trials, scored, strict=True), key=lambda pair: -pair[1].macro_f1):
            try:
                self._save(trial, one, table)
                reports[trial.trial_id] = one.report(epoch_s=share_s)
            except Exception as error:  # a full disk, which may have room again for the next
                reports[trial.trial_id] = _failure(trial, error)
        return reports

    def _save(self, trial: PackedTrial, one: "_ScoredHead", table: FaceTable) -> None:
        if one.scored is None:
            return
        folder = Path(trial.folder)
        valid = table.split("valid")
        if self._kept.takes(trial.trial_id, one.macro_f1):
            save_network(folder / WEIGHTS_FILE, one.state(), one.spec)
        scores = Scores(
            sample_ids=tuple(valid.sample_ids),
            subjects=tuple(valid.subjects),
            labels=valid.expression,
            logits=one.scored.logits,
            classes=tuple(table.info.classes),
            extras=one.scored.extras,
        )
        save_scores(folder / SCORES_FILE, scores)


class _Kept:
    """Which trials' weights are worth writing, of what has been seen of a pack so far."""

    def __init__(self, order: PackOrder) -> None:
        self._order = order
        self._best: list[float] = []

    def takes(self, trial_id: str, macro_f1: float) -> bool:
        if trial_id in self._order.keep_always:
            return True
        n_better = sum(score >= macro_f1 for score in self._best)
        if macro_f1 <= self._order.weights_above or n_better >= self._order.keep_weights:
            return False
        self._best.append(macro_f1)
        return True


@dataclass(frozen=True, eq=False)
class _ScoredHead:
    """A trained head and what it says of the valid split; `scored` is None where a number was not finite."""

    network: ExpressionNetwork
    spec: NetworkSpec
    head: TrainedHead
    scored: Scored | None

    @property
    def macro_f1(self) -> float:
        return self.scored.macro_f1 if self.scored else 0.0

    def state(self) -> dict[str, torch.Tensor]:
        """Of the whole network."""
        state = state_on_cpu(self.network)
        return state | {f"heads.{name}": tensor for name, tensor in self.head.tensors.items()}

    def report(self, *, epoch_s: float) -> EpochReport:
        metrics = self.scored.metrics if self.scored else {}
        return {
            "valid/macro_f1": self.macro_f1,
            **({"head/macro_f1": self.macro_f1, "train/loss": self.head.loss} if self.scored else {}),
            **metrics,
            "epoch": 1,
            "samples_seen": self.head.n_seen,
            "best/macro_f1": self.macro_f1,
            "best/epoch": 0,
            "time/epoch_s": epoch_s,
            "end": "completed" if self.scored else "diverged",
        }


def _score_together(
    configs: Sequence[TrialConfig], table: FaceTable, *, device: torch.device, cache: EmbeddingCache
) -> list[_ScoredHead]:
    """Train and score heads on one network, which all the configs build alike."""
    network, spec = _network_of(configs[0], table, device)
    encoder = FrozenEncoder(network, spec)
    train, valid = table.split("train"), table.split("valid")
    items = [choose_items(train, config) for config in configs]
    rows = np.unique(np.concatenate([each.rows for each in items]))
    faces = embed_faces(encoder, table, rows=rows, config=configs[0], cache=cache)
    views = tuple(np.asarray(view, np.float32) for view in valid_embeddings(encoder, table, cache=cache))
    losses = [
        build_loss(config, train, own, n_classes=len(table.info.classes), feature_width=encoder.width)
        for config, own in zip(configs, items, strict=True)
    ]
    start: Tensors = {name: tensor.detach().clone() for name, tensor in network.heads.state_dict().items()}
    tasks = [
        HeadTask(config, own, loss.expression.weights.double().numpy(), start)
        for config, own, loss in zip(configs, items, losses, strict=True)
    ]
    found = []
    for head, config, loss in zip(
        train_together(faces, train.expression, tasks, device=device), configs, losses, strict=True
    ):
        scorer = ValidScorer(valid, tuple(table.info.classes), config, loss.expression)
        if config.blend.partner != "none":
            partner = Path(config.blend.partner).expanduser()
            scorer.partner = partner_logits(partner, valid, tuple(table.info.classes), device=device)
        scored = None if head.diverged else scorer.score({"logits": _logits(network, head, views)})
        found.append(_ScoredHead(network, spec, head, scored))
    network.heads.load_state_dict(start)
    return found


def _logits(network: ExpressionNetwork, head: TrainedHead, views: Sequence[View]) -> Any:
    network.heads.load_state_dict(head.tensors)
    return predict_embedded(network, views)["logits"]


def _network_of(config: TrialConfig, table: FaceTable, device: torch.device) -> tuple[ExpressionNetwork, NetworkSpec]:
    """A network as the trainer begins with, from the worker's memory where it was built before."""
    key = f"{_network_key(config)} {table.info.content_hash} {device}"
    if key not in _warm:
        with seeded(config.train.seed, epoch=0, device=device):
            network, spec = build_trial_network(config, table.info)
            network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        _warm[key] = network.eval(), spec
    _warm.move_to_end(key)
    while len(_warm) > WARM_NETWORKS:
        _warm.popitem(last=False)
    network, spec = _warm[key]
    return network, replace(spec, mirror=config.model.mirror)


def _groups(trials: Sequence[PackedTrial]) -> list[list[PackedTrial]]:
    """Trials whose heads stand on the same embeddings and begin alike."""
    groups: dict[str, list[PackedTrial]] = {}
    for trial in trials:
        try:
            config = TrialConfig.from_flat(trial.settings)
            key = f"{_network_key(config)} {_views_key(config)}"
        except AffectuneError:
            key = trial.trial_id  # fails by itself, with its own sentence
        groups.setdefault(key, []).append(trial)
    return list(groups.values())


def _network_key(config: TrialConfig) -> str:
    """What decides how a network is built, and with which weights."""
    model = config.model.model_dump(exclude={"drop_rate", "mirror"})
    files = {name: _stamp(str(model[name])) for name in ("weights", "start")}
    return json.dumps([model, files, config.data.normalise, config.train.seed], sort_keys=True)


def _views_key(config: TrialConfig) -> str:
    views = config.train.head_views
    return json.dumps([views, config.model.mirror, config.augment.model_dump() if views > 1 else {}], sort_keys=True)


def _stamp(path: str) -> list[int]:
    """Size and time of a file, so that another one of the same name is not taken for it."""
    with suppress(OSError):
        status = Path(path).expanduser().stat()
        return [status.st_size, status.st_mtime_ns]
    return []


def _failure(trial: PackedTrial, error: Exception) -> EpochReport:
    text = str(error) if isinstance(error, AffectuneError) else f"{type(error).__name__}: {error}"
    with suppress(OSError):
        write_text(Path(trial.folder) / ERROR_FILE, "".join(traceback.format_exception(error)))
    return {
        "epoch": 1,
        "valid/macro_f1": 0.0,
        "best/macro_f1": 0.0,
        "best/epoch": 0,
        "time/epoch_s": 0.0,
        "samples_seen": 0,
        "end": "failed",
        "error": text.splitlines()[0] if text else type(error).__name__,
    }
