"""What is known of candidates, laid out for choosing."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from search import candidate_library
from search.candidate_library import make_library
from search.candidates import Candidate, FloatArray
from search.other_faces import OtherFaces
from spaces.config import TrialConfig
from trainables.scores import Scores

CLASSES = ("anger", "fear", "happiness")
LABELS = np.array([0, 1, 2, -1, 0, 1, 2, 0, 1, 2, 0, -1], dtype=np.int8)
SUBJECTS = tuple(f"p{row // 3}" for row in range(12))


def candidate(
    key: str, *, seed: int = 0, is_complete: bool = True, variants: FloatArray | None = None, **settings: Any
) -> Candidate:
    logits = np.random.default_rng(seed).normal(size=(12, 3)).astype(np.float32)
    config = dict(TrialConfig().with_settings(settings).to_flat())
    scores = Scores(tuple(str(row) for row in range(12)), SUBJECTS, LABELS, logits, CLASSES)
    return Candidate(key, Path(key), config, scores, is_complete, variants=variants)


def others() -> OtherFaces:
    images = np.zeros((6, 8, 8, 1), dtype=np.uint8)
    return OtherFaces("elsewhere", "d1", images, np.arange(6) % 3, ("q0", "q0", "q1", "q1", "q2", "q2"), left_out=0)


def test_library_has_the_labelled_faces_and_their_people() -> None:
    both = [candidate("t0000"), candidate("t0001", seed=1)]

    (kind,) = make_library(both, n_configs=3).kinds

    assert kind.faces.labels.tolist() == LABELS[LABELS >= 0].tolist()
    assert kind.faces.probs[1] == pytest.approx(both[1].scores.probs[LABELS >= 0])
    assert (kind.unit, kind.n_units) == ("subject", 4)


def test_library_knows_what_each_candidate_is() -> None:
    bag = {"train.seed": 7, "data.subsample_ratio": 0.8, "data.subsample_by": "subjects", "optimiser.lr": 0.01}
    listed = [
        candidate("t0000", **{"optimiser.lr": 0.02, "model.backbone": "resnet18"}),
        candidate("t0001", seed=1, is_complete=False, **{"optimiser.lr": 0.01}),
        candidate("t0002", seed=2, **{"optimiser.lr": 0.01, "data.subsample_ratio": 0.2}),
        candidate("b000", seed=3, **bag),
        candidate("b000e7", seed=4, **bag),
        candidate("s000", seed=5, **{"optimiser.lr": 0.02, "model.encoder": "dan"}),
    ]

    library = make_library(listed, n_configs=2)

    traits = library.traits
    assert traits.names == ("t0000", "t0001", "t0002", "b000", "b000e7", "s000")
    assert traits.backbones[0] == "resnet18/pooled" != traits.backbones[1]
    assert traits.is_strong.tolist() == [True, True, False, True, True, True]
    assert traits.is_complete.tolist() == [True, False, True, True, True, True]
    assert traits.is_trial.tolist() == [True, True, True, False, False, False]
    assert traits.is_bag.tolist() == [False, False, False, True, True, False]
    assert traits.config.tolist() == [0, 1, 2, 1, 1, 3]  # bags share that of the trial which they repeat
    assert library.n_configs == 2


def test_epochs_to_choose_among_are_those_of_labelled_faces(monkeypatch: pytest.MonkeyPatch) -> None:
    variants = np.random.default_rng(0).dirichlet(np.ones(3), size=(4, 12))
    listed = [candidate("t0000", variants=variants), candidate("t0001", seed=1)]

    known, unknown = make_library(listed, n_configs=1).variants
    assert known is not None and known.tolist() == variants[:, LABELS >= 0].tolist()
    assert unknown is None

    monkeypatch.setattr(candidate_library, "MOST_VARIANT_BYTES", variants.nbytes - 1)
    assert make_library(listed, n_configs=1).variants == (None, None)


def test_other_faces_join_where_an_objective_says_how() -> None:
    listed = [candidate("t0000"), candidate("t0001", seed=1)]
    probs = np.random.default_rng(1).dirichlet(np.ones(3), size=(2, 6))

    joined = make_library(listed, n_configs=1, others=[(others(), probs)], objective="worst")
    alone = make_library(listed, n_configs=1, others=[(others(), probs)])

    assert [kind.n_units for kind in joined.kinds] == [4, 3]
    assert joined.kinds[1].faces.probs.tolist() == probs.tolist()
    assert (joined.objective, alone.objective) == ("worst", "mean")
    assert len(alone.kinds) == 1
