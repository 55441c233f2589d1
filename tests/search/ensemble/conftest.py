"""Pools of made-up candidates: some good, some weak, wrong together more often than chance would have it."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pytest

if TYPE_CHECKING:
    from search.ensemble.model_library import Library

Pool = tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]


def _make_pool(*, candidates: int = 6, samples: int = 150, classes: int = 4, seed: int = 0) -> Pool:
    """Probabilities [candidates, samples, classes] and labels [samples], the first class the most frequent."""
    generator = np.random.default_rng(seed)
    shares = np.linspace(1.0, 0.2, classes)
    labels = generator.choice(classes, size=samples, p=shares / shares.sum())
    logits = generator.normal(size=(1, samples, classes)) + generator.normal(size=(candidates, samples, classes))
    logits[:, np.arange(samples), labels] += generator.uniform(0.2, 2.0, size=(candidates, 1))
    exponents = np.exp(logits)
    return exponents / exponents.sum(axis=2, keepdims=True), labels


@pytest.fixture
def make_pool() -> Callable[..., Pool]:
    """Builds a pool of candidates and their labels."""
    return _make_pool


@pytest.fixture
def library_of() -> "Callable[..., Library]":
    """Builds a library of one kind of faces from a pool, its people and what else is known of the candidates."""
    from search.ensemble.model_library import Library, make_kind, plain_traits

    def build(
        probs: npt.ArrayLike, labels: npt.ArrayLike, subjects: Sequence[str | None] | None = None, **traits: Any
    ) -> Library:
        kind = make_kind(probs, labels, subjects)
        known = {name: tuple(v) if name in ("names", "backbones") else np.array(v) for name, v in traits.items()}
        return Library((kind,), replace(plain_traits(len(kind.faces.probs)), **known))

    return build


@pytest.fixture
def answers_of() -> Callable[..., npt.NDArray[np.float64]]:
    """Turns classes [samples] that a candidate names into probabilities [samples, classes]."""

    def build(preds: npt.ArrayLike, *, classes: int, sure: float = 0.9) -> npt.NDArray[np.float64]:
        rest = (1.0 - sure) / (classes - 1)
        return np.asarray(np.full((classes, classes), rest) + np.eye(classes) * (sure - rest))[np.asarray(preds)]

    return build
