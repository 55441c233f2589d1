"""What a trial's network takes of a GPU, measured: memory, seconds a step, and whether compiling would pay.

A profile is kept as a small JSON file in the cache's folder, by a hash of all that it depends on: the network, how it
is trained, the device, PyTorch's version. One that can't be read is measured again.
"""

import hashlib
import json
import logging
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from spaces.config import TrialConfig
from spaces.errors import AffectuneError
from trainables.data.batches import Batch
from trainables.data.needs import needed_labels
from trainables.data.table import DatasetInfo
from trainables.losses.total import TrialLoss
from trainables.memory import free_memory, is_out_of_memory
from trainables.models.build import build_trial_network, design_of
from trainables.models.freezing import set_training_mode
from trainables.models.inputs import predict_outputs
from trainables.outputs import write_text
from trainables.stepper import Stepper

logger = logging.getLogger(__name__)

FOLDER = "profiles"
"""Within the cache's folder."""

VERSION = 1
STEPS = 5
SCORED_FACES = 128
LEAST_TRAINING_S = 300.0
"""Compiling takes about a minute and saves at most a third or so: for a shorter trial it is not even measured."""

LEAST_CONTEXT_BYTES, MOST_CONTEXT_BYTES = 300 * 2**20, 2 * 2**30
"""What is taken of a card beside tensors is this process's context where it lies between; else another's work."""


@dataclass(frozen=True)
class GpuProfile:
    """What was measured.

    Attributes:
        peak_bytes: the most that PyTorch reserved, in training and in scoring.
        context_bytes: what the process took of the card beside that.
        card_bytes: all there is.
        step_s: seconds a step.
        compiled_step_s: the same compiled; None where that was not measured, or failed.
        compile_s: seconds that compiling took; None likewise.
        tried_compiling: whether it was to be measured.
    """

    peak_bytes: int
    context_bytes: int
    card_bytes: int
    step_s: float
    compiled_step_s: float | None = None
    compile_s: float | None = None
    tried_compiling: bool = False


@dataclass(frozen=True)
class Demand:
    """What a profile depends on beside the device.

    Attributes:
        network: the network and how it is trained, as JSON.
        n_faces: that go through it at once.
    """

    network: str
    n_faces: int


def demand_of(config: TrialConfig, info: DatasetInfo) -> Demand:
    """What a config on a table of these faces demands of a GPU; equal for equal memory and time."""
    train, model = config.train, config.model
    parts = {
        "backbone": model.backbone,
        "design": asdict(design_of(config)),
        "n_classes": len(info.classes),
        "image_px": model.image_px or info.image_px,
        "faces": [info.image_px, info.channels],
        "targets": sorted(needed_labels(config)),
        "trains": train.epochs > 0,
        "batch_size": train.batch_size,
        "precision": train.precision,
        "average": train.ema_decay > 0,
        "batch_norm": train.batch_norm,
        "frozen": [train.frozen_share, train.frozen_stages],
        "optimiser": config.optimiser.name,
        "sharpness": config.optimiser.sam_rho > 0,
        "mix": config.augment.mix,
        "affinity": config.loss.affinity_weight > 0,
        "drop_path": model.drop_path_rate > 0,
    }
    n_faces = min(train.micro_batch or train.batch_size, train.batch_size)
    if train.micro_batch is None:
        parts.pop("batch_size")
    return Demand(json.dumps(parts, sort_keys=True), n_faces)


def compiles(config: TrialConfig, profile: GpuProfile | None, *, n_steps: int) -> bool:
    """Whether a trial is compiled: as its config says, or where that saves more over its steps than it costs.

    Args:
        config: of the trial.
        profile: of its demand, where one was measured.
        n_steps: that the trial is to take.
    """
    if config.train.compile != "auto":
        return config.train.compile == "on"
    if profile is None or profile.compiled_step_s is None or profile.compile_s is None:
        return False
    return (profile.step_s - profile.compiled_step_s) * n_steps > profile.compile_s


def load_profile(config: TrialConfig, info: DatasetInfo, device: torch.device, *, cache: Path) -> GpuProfile | None:
    """The profile that was kept of a config on this device; None where there is none that can be read."""
    path = _path(demand_of(config, info), device, cache)
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        return _checked(GpuProfile(**document["profile"]))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, KeyError):
        logger.info("profile can't be read and is measured again: %s", path)
        return None


def save_profile(
    profile: GpuProfile, config: TrialConfig, info: DatasetInfo, device: torch.device, *, cache: Path
) -> None:
    """Keep a profile. A folder that can't be written to costs a measurement the next time, and no more."""
    demand = demand_of(config, info)
    document = {"device": _describe(device), "demand": asdict(demand), "profile": asdict(profile)}
    path = _path(demand, device, cache)
    try:
        write_text(path, json.dumps(document, indent=2) + "\n")
    except AffectuneError as error:
        logger.warning("profile could not be kept: %s", error)


def fetch_profile(
    config: TrialConfig, info: DatasetInfo, device: torch.device, *, n_steps: int, cache: Path | None
) -> GpuProfile:
    """The profile of a config on this device, kept or measured now; nothing else should compute there meanwhile.

    Args:
        config: of a trial.
        info: of its table.
        device: the GPU.
        n_steps: that the trial is to take: compiling is measured where these take long enough for it to pay.
        cache: folder of the cache; None measures every time.
    """
    kept = load_profile(config, info, device, cache=cache) if cache else None
    if kept is not None and (kept.tried_compiling or not _may_pay(config, kept.step_s, n_steps=n_steps)):
        return kept
    profile = measure_profile(config, info, device, n_steps=n_steps)
    if cache:
        save_profile(profile, config, info, device, cache=cache)
    return profile


def measure_profile(config: TrialConfig, info: DatasetInfo, device: torch.device, *, n_steps: int) -> GpuProfile:
    """Train and score on random faces. Weights are random too: they change neither memory nor time.

    Where even the smallest part of a batch does not fit, the profile is of the whole card.
    """
    free_memory()
    gauge = _Gauge(device)
    try:
        step_s = _time_steps(_build_stepper(config, info, device), config, info)[0] if config.train.epochs else 0.0
        _score(config, info, device)
    except Exception as error:
        if not (is_out_of_memory(error) or is_out_of_memory(error.__cause__ or error)):
            raise
        return GpuProfile(gauge.card_bytes, 0, gauge.card_bytes, step_s=0.0, tried_compiling=True)
    peak_bytes, context_bytes = gauge.peak_bytes(), gauge.context_bytes()
    tries = _may_pay(config, step_s, n_steps=n_steps)
    compiled_step_s, compile_s = _time_compiled(config, info, device) if tries else (None, None)
    return GpuProfile(
        peak_bytes, context_bytes, gauge.card_bytes, step_s, compiled_step_s, compile_s, tried_compiling=tries
    )


def _may_pay(config: TrialConfig, step_s: float, *, n_steps: int) -> bool:
    return config.train.compile == "auto" and step_s * n_steps >= LEAST_TRAINING_S


def _time_compiled(
    config: TrialConfig, info: DatasetInfo, device: torch.device
) -> tuple[float, float] | tuple[None, None]:
    """Seconds of a compiled step and of compiling; None where it fails."""
    free_memory()
    try:
        stepper = _build_stepper(config, info, device, compiles=True)
        step_s, warming_s = _time_steps(stepper, config, info)
    except Exception as error:  # a trial would go on without; so does the measurement
        logger.info("compiling could not be measured: %s", error)
        return None, None
    finally:
        torch.compiler.reset()
    return (step_s, max(warming_s - 4 * step_s, 0.0)) if stepper.is_compiled else (None, None)


def _time_steps(stepper: Stepper, config: TrialConfig, info: DatasetInfo) -> tuple[float, float]:
    """Seconds of a step, and of the first four: an epoch has batches of two sizes, and each is compiled."""
    set_training_mode(stepper.network, config.train)
    device = next(stepper.network.parameters()).device
    n_faces = config.train.batch_size
    batches = [_random_batch(n, config, info).to(device) for n in (n_faces, max(n_faces - 1, 2))]
    started_s = time.perf_counter()
    for batch in batches * 2:
        stepper.step(batch, progress=0.5)
    _wait(device)
    warming_s = time.perf_counter() - started_s
    return statistics.median(_seconds(lambda: stepper.step(batches[0], progress=0.5), device) for _ in range(STEPS)), warming_s


def _seconds(work: Callable[[], object], device: torch.device) -> float:
    started_s = time.perf_counter()
    work()
    _wait(device)
    return time.perf_counter() - started_s


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _build_stepper(config: TrialConfig, info: DatasetInfo, device: torch.device, *, compiles: bool = False) -> Stepper:
    network, spec = build_trial_network(_without_files(config), info)
    network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    counts = np.full(len(info.classes), 100)
    loss = TrialLoss(
        _without_files(config), class_counts=counts, feature_width=network.encoder.feature_width,
        unit_counts=np.full((12, 2), 100),
    ).to(device)  # fmt: skip
    return Stepper(network, spec, loss=loss, config=config, compiles=compiles)


def _score(config: TrialConfig, info: DatasetInfo, device: torch.device) -> None:
    """As after an epoch; of a trial without full epochs, as its faces are embedded."""
    network, spec = build_trial_network(_without_files(config), info)
    network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    faces = np.zeros((SCORED_FACES, info.image_px, info.image_px, info.channels), np.uint8)
    predict_outputs(network, faces, spec, batch_size=SCORED_FACES)


def _without_files(config: TrialConfig) -> TrialConfig:
    """The config with random weights, and no other network beside its own."""
    settings = {
        "model.weights": "none", "model.start": "none", "branches.appearance_weights": "none", "hand.weights": "none",
        "data.normalise": "table", "loss.class_weights": None,
    }  # fmt: skip
    return TrialConfig.from_flat({**config.to_flat(), **settings}, alone=True)


def _random_batch(n: int, config: TrialConfig, info: DatasetInfo) -> Batch:
    generator = torch.Generator().manual_seed(0)
    shape = (n, info.image_px, info.image_px, info.channels)
    images = torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)
    targets = {"expression": torch.arange(n) % len(info.classes)}
    made = {
        "valence_arousal": torch.rand(n, 2, generator=generator),
        "action_units": torch.randint(0, 2, (n, 12), generator=generator),
        "landmarks": torch.rand(n, 136, generator=generator),
        "hand": torch.arange(n) % 2,
    }
    targets |= {name: made[name] for name in needed_labels(config)}
    looks = images if config.model.encoder == "two_branch" else None
    return Batch(images, looks, targets, torch.arange(n))


class _Gauge:
    """Reads what this process takes of a GPU; of a processor nothing is read."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self.card_bytes = 0
        if device.type == "cuda":
            self.card_bytes = torch.cuda.get_device_properties(device).total_memory
            torch.cuda.reset_peak_memory_stats(device)

    def peak_bytes(self) -> int:
        """The most that was reserved for tensors."""
        return torch.cuda.max_memory_reserved(self._device) if self._device.type == "cuda" else 0

    def context_bytes(self) -> int:
        """What is taken beside, where that can be this process's."""
        if self._device.type != "cuda":
            return 0
        free, total = torch.cuda.mem_get_info(self._device)
        beside = total - free - torch.cuda.memory_reserved(self._device)
        return min(max(beside, LEAST_CONTEXT_BYTES), MOST_CONTEXT_BYTES)


def _path(demand: Demand, device: torch.device, cache: Path) -> Path:
    parts = json.dumps([VERSION, _describe(device), asdict(demand)], sort_keys=True)
    return cache / FOLDER / f"{hashlib.blake2b(parts.encode(), digest_size=16).hexdigest()}.json"


def _describe(device: torch.device) -> dict[str, Any]:
    """The device and the software, as far as memory and time depend on them."""
    if device.type != "cuda":
        return {"device": device.type, "torch": torch.__version__}
    card = torch.cuda.get_device_properties(device)
    return {"device": card.name, "card_bytes": card.total_memory, "torch": torch.__version__}


def _checked(profile: GpuProfile) -> GpuProfile:
    """Raise ValueError where a number is none that a measurement gives."""
    for name, value in asdict(profile).items():
        if name == "tried_compiling":
            continue
        if value is None and name in ("compiled_step_s", "compile_s"):
            continue
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < float("inf"):
            raise ValueError(f"{name} must be a number from 0 up, got {value!r}")
    return profile
