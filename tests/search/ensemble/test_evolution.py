"""Weights by CMA-ES."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from search.ensemble import evolution
from search.ensemble.evolution import LEAST_WEIGHT, MOST_CANDIDATES, evolve_weights
from search.ensemble.model_library import Library, make_kind, plain_traits

Make = Callable[..., Any]


def test_evolved_weights_depend_on_the_seed_alone(make_pool: Make, library_of: Make) -> None:
    library = library_of(*make_pool(samples=80))

    first, second, third = (evolve_weights(library, seed=seed).tolist() for seed in (0, 0, 1))

    assert first == second != third


@pytest.mark.parametrize("seed", range(5))
def test_evolved_weights_are_not_worse_here_than_the_plain_average(
    make_pool: Make, library_of: Make, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    library = library_of(*make_pool(samples=80, seed=seed))
    monkeypatch.setattr(evolution, "LEAST_WEIGHT", 0.0)

    weights = evolve_weights(library, seed=0)

    assert (weights >= 0).all()
    assert weights.sum() == pytest.approx(1)
    assert library.score(weights) >= library.score(np.full(6, 1 / 6)) - 1e-6


def test_evolution_finds_the_one_who_knows_among_many_who_guess(answers_of: Make, library_of: Make) -> None:
    generator = np.random.default_rng(0)
    labels = generator.integers(0, 3, 120)
    guesses = [answers_of(generator.integers(0, 3, 120), classes=3) for _ in range(9)]
    library = library_of(np.stack([*guesses, answers_of(labels, classes=3, sure=0.6)]), labels)

    weights = evolve_weights(library, seed=0)

    assert library.score(weights) > library.score(np.full(10, 0.1)) + 0.1
    assert weights.argmax() == 9


def test_evolution_leaves_small_weights_out(make_pool: Make, library_of: Make) -> None:
    library = library_of(*make_pool(candidates=20, samples=80))

    weights = evolve_weights(library, seed=0)

    assert weights[weights > 0].min() >= LEAST_WEIGHT
    assert weights.sum() == pytest.approx(1)


def test_evolution_takes_the_best_alone_of_many(make_pool: Make, library_of: Make) -> None:
    library = library_of(*make_pool(candidates=MOST_CANDIDATES + 10, samples=60))

    weights = evolve_weights(library, seed=0)

    worst = np.argsort(library.alone())[:10]
    assert weights.shape == (MOST_CANDIDATES + 10,)
    assert weights[worst].sum() == 0


def test_evolution_of_one_candidate_gives_it_all_weight(make_pool: Make, library_of: Make) -> None:
    assert evolve_weights(library_of(*make_pool(candidates=1)), seed=0).tolist() == [1.0]


def test_evolution_lifts_the_worse_of_two_kinds(answers_of: Make) -> None:
    generator = np.random.default_rng(0)
    labels = generator.integers(0, 2, 100)

    def kind(*rights: float) -> Any:
        said = [np.where(generator.random(100) < right, labels, 1 - labels) for right in rights]
        return make_kind(np.stack([answers_of(one, classes=2) for one in said]), labels, None)

    kinds = kind(1.0, 0.7, 0.6), kind(0.5, 0.9, 0.6)
    worst, mean = (Library(kinds, plain_traits(3), objective) for objective in ("worst", "mean"))

    assert worst.score(evolve_weights(worst, seed=0)) >= worst.score(evolve_weights(mean, seed=0)) - 1e-6
    assert worst.score(evolve_weights(worst, seed=0)) > worst.score(np.full(3, 1 / 3)) - 1e-6
