"""Toy tables that a network learns in a few steps, and one short training that several tests look at."""

from collections.abc import Callable
from dataclasses import replace
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
    """Write a toy table: `make_table(train=[labels], valid=[labels], classes=, px=, channels=)`.

    `columns` gives optional labels: split to name to values, as `Faces` takes them.
    """
    from trainables.data.table import write_table

    def make(
        *,
        train: Any = (0, 1, 2) * 16,
        valid: Any = (0, 1, 2) * 8,
        classes: tuple[str, ...] = CLASSES,
        px: int = 32,
        channels: int = 1,
        columns: dict[str, dict[str, Any]] | None = None,
    ) -> "FaceTable":
        splits = {
            name: replace(
                toy_faces(np.asarray(labels), px=px, channels=channels, seed=seed), **(columns or {}).get(name, {})
            )
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
def labelled_table(make_table: Callable[..., "FaceTable"]) -> "FaceTable":
    """The toy faces with all that can be known of one; some rows lack their expression, some other labels.

    The hand is seen on every other face of the first class and nowhere else.
    """
    columns, labels = {}, {}
    for seed, (name, n) in enumerate({"train": 48, "valid": 24}.items()):
        generator = np.random.default_rng(seed)
        expression = np.arange(n) % 3
        valence, arousal = generator.uniform(-1, 1, (2, n)).astype(np.float32)
        columns[name] = {
            "valence": np.where(np.arange(n) % 5 == 1, np.float32(np.nan), valence),
            "arousal": np.where(np.arange(n) % 5 == 1, np.float32(np.nan), arousal),
            "action_units": np.where(np.arange(n)[:, None] % 7 == 2, -1, generator.integers(0, 2, (n, 12))),
            "landmarks": generator.uniform(0.1, 0.9, (n, 136)).astype(np.float32),
            "hand": np.where(np.arange(n) % 11 == 3, -1, np.arange(n) % 6 == 0),
        }
        labels[name] = np.where(np.arange(n) % 8 == 7, -1, expression)
    return make_table(**labels, columns=columns)


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
