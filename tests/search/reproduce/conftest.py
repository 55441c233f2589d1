"""Synthetic answers of people's faces, on which rows are computed without any training."""

import numpy as np
import pytest

from search.reproduce.measures import Answer, Faces

CLASSES = ("anger", "fear", "happiness")
N_PEOPLE, N_EACH = 20, 9


@pytest.fixture
def faces() -> Faces:
    """Twenty people with nine faces each, valence and arousal and action units known."""
    generator = np.random.default_rng(5)
    n_faces = N_PEOPLE * N_EACH
    return Faces(
        classes=CLASSES,
        labels=np.tile(np.arange(3, dtype=np.int8), n_faces // 3),
        subjects=tuple(f"p{number}" for number in range(N_PEOPLE) for _ in range(N_EACH)),
        counted=(0, 1, 2),
        valence_arousal=generator.uniform(-1, 1, (n_faces, 2)).astype(np.float32),
        action_units=generator.integers(0, 2, (n_faces, 12)).astype(np.int8),
    )


@pytest.fixture
def answers(faces: Faces) -> list[Answer]:
    """Four networks, each right somewhat more often than not, that see hands, affect and action units."""
    generator = np.random.default_rng(6)
    n_faces = len(faces.labels)
    assert faces.valence_arousal is not None and faces.action_units is not None
    found = []
    for _ in range(4):
        logits = generator.normal(size=(n_faces, 3)) + 1.2 * np.eye(3)[faces.labels]
        extras = {
            "hand": np.clip((faces.labels == 1) * 0.5 + generator.uniform(0, 0.5, n_faces), 0, 1),
            "valence_arousal": faces.valence_arousal + generator.normal(size=(n_faces, 2)),
            "action_units": np.clip(0.2 * faces.action_units + generator.uniform(0, 0.4, (n_faces, 12)), 0, 1),
        }
        found.append(Answer(logits, {name: numbers.astype(np.float32) for name, numbers in extras.items()}))
    return found
