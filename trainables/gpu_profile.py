"""What a trial's network takes of a GPU, as it was measured: memory, seconds a step, and whether compiling would pay.

A profile is kept as a small JSON file in the cache's folder, by a hash of all that it depends on: the network, how it
is trained, the device, PyTorch's version. One that can't be read is measured again.
"""

import hashlib
import json
import logging
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from spaces.config import TrialConfig
from spaces.errors import AffectuneError
from trainables.data.needs import needed_labels
from trainables.data.table import DatasetInfo
from trainables.embeddings.cache import PROFILES
from trainables.models.build import design_of
from trainables.outputs import write_text

logger = logging.getLogger(__name__)

VERSION = 2
LEAST_TRAINING_S = 300.0
"""Compiling takes about a minute and saves at most a third or so: for a shorter trial it is not even measured."""


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
        is_lasting: whether it is of the network alone: nothing else was on the card, and memory sufficed.
    """

    peak_bytes: int
    context_bytes: int
    card_bytes: int
    step_s: float
    compiled_step_s: float | None = None
    compile_s: float | None = None
    tried_compiling: bool = False
    is_lasting: bool = True


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
    image_px = model.image_px or info.image_px
    parts = {
        "backbone": model.backbone,
        "design": asdict(design_of(config, image_px=image_px)),
        "n_classes": len(info.classes),
        "image_px": image_px,
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


def compiles(config: TrialConfig, profile: GpuProfile | None, *, n_steps: int, deadline_s: float | None = None) -> bool:
    """Whether a trial is compiled: as its config says, or where that saves more over its steps than it costs.

    Args:
        config: of the trial.
        profile: of its demand, where one was measured.
        n_steps: that the trial is to take.
        deadline_s: Unix time by which it must have ended, whether or not it has taken them.
    """
    if config.train.compile != "auto":
        return config.train.compile == "on"
    if profile is None or profile.compiled_step_s is None or profile.compile_s is None:
        return False
    if deadline_s is not None:
        n_steps = min(n_steps, int((deadline_s - time.time()) / profile.step_s))
    return (profile.step_s - profile.compiled_step_s) * n_steps > profile.compile_s


def may_pay(config: TrialConfig, step_s: float, *, n_steps: int) -> bool:
    """Whether compiling is worth measuring: the trial leaves it open, and trains long enough uncompiled."""
    return config.train.compile == "auto" and step_s * n_steps >= LEAST_TRAINING_S


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


def _path(demand: Demand, device: torch.device, cache: Path) -> Path:
    parts = json.dumps([VERSION, _describe(device), asdict(demand)], sort_keys=True)
    return cache / PROFILES / f"{hashlib.blake2b(parts.encode(), digest_size=16).hexdigest()}.json"


def _describe(device: torch.device) -> dict[str, Any]:
    """The device and the software, as far as memory and time depend on them."""
    if device.type != "cuda":
        return {"device": device.type, "torch": torch.__version__}
    card = torch.cuda.get_device_properties(device)
    return {"device": card.name, "card_bytes": card.total_memory, "torch": torch.__version__}


def _checked(profile: GpuProfile) -> GpuProfile:
    """Raise ValueError where a number is none that a measurement gives."""
    for name, value in asdict(profile).items():
        if name in ("tried_compiling", "is_lasting"):
            continue
        if value is None and name in ("compiled_step_s", "compile_s"):
            continue
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < float("inf"):
            raise ValueError(f"{name} must be a number from 0 up, got {value!r}")
    return profile
