"""Folders of searches that never ran, of any size: settings and scores are drawn."""

import math
import time
from pathlib import Path
from typing import Any

import numpy as np

from search.folder import SearchFolder, SearchManifest, TrialRecord
from spaces.domains import Choice, Integer, LogUniform
from spaces.loading import parse_space
from spaces.space import SearchSpace

N_EPOCHS = 8
SPACE = """
name: made
description: a space of trials that never ran
parameters:
  model.backbone: {choice: [resnet18, test_efficientnet], default: resnet18}
  optimiser.lr: {log_uniform: [1.0e-4, 1.0e-1], default: 1.0e-3}
  loss.label_smoothing: {uniform: [0.0, 0.5], default: 0.1}
  model.drop_rate: {uniform: [0.0, 0.5], default: 0.1}
  optimiser.name: {choice: [adam, adamw], default: adam}
  optimiser.sam_rho: {uniform: [0.0, 0.1], default: 0.05, when: {optimiser.name: adamw}}
fixed:
  model.weights: none
  train.epochs: 8
"""


def write_search(path: Path, *, n_trials: int, seed: int = 0, status: str = "ended") -> SearchFolder:
    """A search's folder with trials of all ends.

    Args:
        path: of the folder.
        n_trials: trial 0, the default, among them.
        seed: of settings and scores.
        status: of the search.
    """
    folder, space = SearchFolder(path), parse_space(SPACE, where="made")
    path.mkdir(parents=True)
    (path / "space.yaml").write_text(SPACE, encoding="utf-8")
    folder.write_manifest(
        SearchManifest(
            name=path.name,
            data="/data/faces",
            content_hash="ab12cd34",
            classes=("anger", "fear"),
            seed=seed,
            n_trials=n_trials,
            time_budget_s=None,
            tracking_uri=f"sqlite:///{path.parent}/mlflow.db",
            status=status,
            wall_s=600.0,
            launched_s=time.time() - 700.0,
        )
    )
    generator = np.random.default_rng(seed)
    for number in range(n_trials):
        values = space.default() if number == 0 else _draw(space, generator)
        folder.write_record(_trial(space, number, values, generator))
    return folder


def _draw(space: SearchSpace, generator: np.random.Generator) -> dict[str, Any]:
    drawn: dict[str, Any] = {}
    for parameter in space.parameters:
        match parameter.domain:
            case Choice(values=options):
                drawn[parameter.name] = options[int(generator.integers(len(options)))]
            case Integer(low=low, high=high):
                drawn[parameter.name] = int(generator.integers(low, high + 1))
            case LogUniform(low=low, high=high):
                drawn[parameter.name] = math.exp(generator.uniform(math.log(low), math.log(high)))
            case domain:
                drawn[parameter.name] = float(generator.uniform(domain.low, domain.high))
    return dict(space.complete(drawn))


def _trial(space: SearchSpace, number: int, values: dict[str, Any], generator: np.random.Generator) -> TrialRecord:
    """Good where the learning rate is near 3e-3; the rest hardly matters."""
    record = TrialRecord(f"t{number:04d}", number, values, space.to_config(values).to_flat())
    height = 0.7 - 0.12 * abs(math.log10(values["optimiser.lr"] / 3e-3)) + 0.01 * float(generator.normal())
    if number % 11 == 5:
        record.end, record.error = "failed", f"CUDA error {number}: out of luck"
        return record
    n_epochs = 2 if number % 3 == 1 else N_EPOCHS
    for epoch in range(1, n_epochs + 1):
        score = height * (1.0 - 0.5 * math.exp(-epoch / 2))
        seen = {"epoch": epoch, "valid/macro_f1": score, "best/macro_f1": score, "best/epoch": epoch}
        record.add_epoch({**seen, "train/loss": 1.0 / epoch, "time/epoch_s": 4.0})
    record.end = "diverged" if number % 13 == 7 else "stopped" if n_epochs < N_EPOCHS else "completed"
    return record
