"""Toy tables that a network learns in a few steps, and one short training that several tests look at."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

if TYPE_CHECKING:
    from spaces.config import TrialConfig
    from trainables.data.table import Faces, FaceTable
    from trainables.trainer import Trainer

CLASSES = ("anger", "fear", "joy")


def toy_faces(labels: "np.ndarray[Any, Any]", *, px: int, channels: int, seed: int) -> "Faces":
    """Noise with a bright bar, whose height is the class; label -1 has none."""
    from trainables.data.table import Faces

    generator = np.random.default_rng(seed)
    images = generator.integers(0, 120, (len(labels), px, px, channels), dtype=np.uint8)
    for image, label in zip(images, labels, strict=True):
        if label >= 0:
            image[label * 8 : label * 8 + 8] += np.uint8(120)
    return Faces(
        images=images,
        expression=labels.astype(np.int8),
        sample_ids=[f"{seed}-{row}" for row in range(len(labels))],
        subjects=[f"person {seed}-{row // 2}" if row % 5 else None for row in range(len(labels))],
    )


@pytest.fixture(scope="session")
def make_table(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., "FaceTable"]:
    """Write a toy table: `make_table(train=[labels], valid=[labels], classes=, px=, channels=)`."""
    from trainables.data.table import write_table

    def make(
        *,
        train: Any = (0, 1, 2) * 16,
        valid: Any = (0, 1, 2) * 8,
        classes: tuple[str, ...] = CLASSES,
        px: int = 32,
        channels: int = 1,
    ) -> "FaceTable":
        splits = {
            name: toy_faces(np.asarray(labels), px=px, channels=channels, seed=seed)
            for seed, (name, labels) in enumerate({"train": train, "valid": valid}.items())
        }
        out: Path = tmp_path_factory.mktemp("toy") / "table"
        return write_table(out, splits=splits, classes=classes, sources={"train": "drawn"})  # type: ignore[arg-type]

    return make


@pytest.fixture(scope="session")
def toy_table(make_table: Callable[..., "FaceTable"]) -> "FaceTable":
    """48 grey training faces and 24 valid ones of 32 px, three classes."""
    return make_table()


@pytest.fixture(scope="session")
def make_config() -> Callable[..., "TrialConfig"]:
    """A quick config, with settings over it: `make_config({"train.epochs": 1})`."""
    from spaces.config import TrialConfig

    def make(settings: dict[str, Any] | None = None) -> "TrialConfig":
        quick = {
            "model.backbone": "test_efficientnet",
            "model.drop_rate": 0.2,
            "optimiser.lr": 5e-3,
            "train.epochs": 2,
            "train.batch_size": 16,
        }
        return TrialConfig.from_flat({**quick, **(settings or {})})

    return make


@pytest.fixture(scope="session")
def trained(toy_table: "FaceTable", make_config: Callable[..., "TrialConfig"]) -> "Trainer":
    """A run that has ended: 4 epochs after a head-only one, blended with its head. Read it; do not train it on."""
    from trainables.trainer import Trainer

    settings = {"train.epochs": 4, "train.head_epochs": 1, "blend.partner": "head", "blend.weight": 0.3}
    trainer = Trainer(make_config(settings), toy_table)
    while not trainer.is_done:
        trainer.run_epoch()
    return trainer
