"""Pools of made-up candidates: some good, some weak, wrong together more often than chance would have it."""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest

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
