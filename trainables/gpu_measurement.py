"""Measuring what a trial's network takes of a GPU, on random faces; nothing else should compute there meanwhile."""

import logging
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from spaces.config import TrialConfig
from trainables.data.batches import Batch
from trainables.data.needs import needed_labels
from trainables.data.table import DatasetInfo
from trainables.gpu_profile import GpuProfile, load_profile, may_pay, save_profile
from trainables.losses.total import TrialLoss
from trainables.memory import CONTEXT_BYTES, free_memory, is_out_of_memory
from trainables.models.build import build_trial_network
from trainables.models.freezing import set_training_mode
from trainables.models.inputs import predict_outputs
from trainables.stepper import Stepper

logger = logging.getLogger(__name__)

STEPS = 5
SCORED_FACES = 128
FREE_SHARE = 0.95
"""Of a card's memory: where less is free before a measurement, something else is at work there."""

LEAST_CONTEXT_BYTES, MOST_CONTEXT_BYTES = 300 * 2**20, 2 * 2**30
"""What is taken of a card beside tensors is this process's context where it lies between; else another's work."""


def fetch_profile(
    config: TrialConfig, info: DatasetInfo, device: torch.device, *, n_steps: int, cache: Path | None
) -> GpuProfile:
    """The profile of a config on this device, kept or measured now; nothing else should compute there meanwhile.

    One that bears the marks of something else is not kept, and used only where there is no other.

    Args:
        config: of a trial.
        info: of its table.
        device: the GPU.
        n_steps: that the trial is to take: compiling is measured where these take long enough for it to pay.
        cache: folder of the cache; None measures every time.
    """
    kept = load_profile(config, info, device, cache=cache) if cache else None
    if kept is not None and (kept.tried_compiling or not may_pay(config, kept.step_s, n_steps=n_steps)):
        return kept
    profile = measure_profile(config, info, device, n_steps=n_steps)
    if not profile.is_lasting:
        return kept or profile
    if cache:
        save_profile(profile, config, info, device, cache=cache)
    return profile


def measure_profile(config: TrialConfig, info: DatasetInfo, device: torch.device, *, n_steps: int) -> GpuProfile:
    """Train and score on random faces. Weights are random too: they change neither memory nor time.

    Where even the smallest part of a batch does not fit, the profile is of the whole card. The profile is a lasting one
    where the card was free at the start and its memory sufficed.
    """
    free_memory()
    gauge = _Gauge(device)
    was_free = gauge.is_card_free()
    try:
        step_s, sufficed = _time_trial(config, info, device)
    except Exception as error:
        if not is_out_of_memory(error.__cause__ or error):
            raise
        return GpuProfile(gauge.card_bytes, 0, gauge.card_bytes, step_s=0.0, tried_compiling=True, is_lasting=False)
    peak_bytes, context_bytes = gauge.peak_bytes(), gauge.context_bytes()
    tries = may_pay(config, step_s, n_steps=n_steps)
    compiled_step_s, compile_s = _time_compiled(config, info, device) if tries else (None, None)
    return GpuProfile(
        peak_bytes, context_bytes, gauge.card_bytes, step_s, compiled_step_s, compile_s, tried_compiling=tries,
        is_lasting=was_free and sufficed,
    )  # fmt: skip


def _time_trial(config: TrialConfig, info: DatasetInfo, device: torch.device) -> tuple[float, bool]:
    """Seconds of a step, 0 where there is none, and whether memory sufficed for it.

    Scoring, which may take more memory, comes after, as in an epoch.
    """
    stepper = _build_stepper(config, info, device)
    step_s = _time_steps(stepper, config, info)[0] if config.train.epochs else 0.0
    faces = np.zeros((SCORED_FACES, info.image_px, info.image_px, info.channels), np.uint8)
    predict_outputs(stepper.average.network, faces, stepper.spec, batch_size=SCORED_FACES)
    return step_s, not stepper.n_oom


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
    times = [_seconds(lambda: stepper.step(batches[0], progress=0.5), device) for _ in range(STEPS)]
    return statistics.median(times), warming_s


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

    def is_card_free(self) -> bool:
        """Whether nearly all of it is this process's to take."""
        if self._device.type != "cuda":
            return True
        free, total = torch.cuda.mem_get_info(self._device)
        return free + torch.cuda.memory_reserved(self._device) + CONTEXT_BYTES > FREE_SHARE * total

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
