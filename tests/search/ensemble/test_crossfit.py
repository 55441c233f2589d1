"""Every face is answered by choices that know nothing of its person."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from search.ensemble.blending import soft_vote
from search.ensemble.crossfit import assign_folds, cross_fit, fixed_answers
from search.ensemble.model_library import Library, make_kind, plain_traits
from search.ensemble.selection import choose_single, choose_uniform
from spaces.errors import EnsembleError
from trainables.metrics import confusion_matrix

Make = Callable[..., Any]


def people(n: int, *, faces_each: int) -> list[str]:
    return [f"p{row // faces_each:03}" for row in range(n)]


def take_first(library: Library, seed: int) -> npt.NDArray[np.float64]:
    return np.eye(library.n_candidates)[0]


class Spy:
    """A way to choose that remembers the faces it was shown, and says in its weights which call it was.

    The first of two candidates says of each face its number, as a probability; the second says 0 of all.
    """

    STEP = 1e-3

    def __init__(self) -> None:
        self.shown: list[list[set[int]]] = []

    @staticmethod
    def asked_about(kinds: Sequence[tuple[npt.NDArray[np.int64], list[str] | None]]) -> Library:
        made = []
        for labels, subjects in kinds:
            of_first = (np.arange(len(labels)) + 1) / 1000
            of_both = np.stack([of_first, np.zeros(len(labels))])  # [candidates, samples]
            made.append(make_kind(np.stack([of_both, 1 - of_both], axis=2), labels, subjects))
        return Library(tuple(made), plain_traits(2))

    def __call__(self, library: Library, seed: int) -> npt.NDArray[np.float64]:
        self.shown.append([set((faces.probs[0, :, 0] * 1000 - 0.5).astype(int).tolist()) for faces in library.faces])
        second = self.STEP * len(self.shown)
        return np.array([1 - second, second])

    def calls(self, probs: npt.NDArray[np.float64]) -> list[int]:
        """By which call each face was answered, from what was said of it, [samples, classes]."""
        first = probs[:, 0] * 1000 / (np.arange(len(probs)) + 1)
        return [round(share) for share in ((1 - first) / self.STEP).tolist()]


def test_folds_keep_people_together() -> None:
    generator = np.random.default_rng(0)
    units, labels = generator.integers(0, 30, 400), generator.integers(0, 4, 400)

    folds = assign_folds(units, labels, n_folds=5, seed=0)

    assert all(len(set(folds[units == unit].tolist())) == 1 for unit in range(30))
    assert set(folds.tolist()) == set(range(5))


@pytest.mark.parametrize("seed", range(3))
def test_folds_have_their_share_of_every_class(seed: int) -> None:
    generator = np.random.default_rng(seed)
    labels = generator.choice(4, size=500, p=[0.6, 0.3, 0.07, 0.03])

    folds = assign_folds(np.arange(500), labels, n_folds=5, seed=seed)

    cells = np.stack([np.bincount(labels[folds == fold], minlength=4) for fold in range(5)])
    assert (cells.max(axis=0) - cells.min(axis=0) <= 1).all()


def test_folds_of_people_have_nearly_their_share_of_every_class() -> None:
    generator = np.random.default_rng(1)
    units, labels = np.repeat(np.arange(60), 10), generator.choice(3, size=600, p=[0.6, 0.3, 0.1])

    folds = assign_folds(units, labels, n_folds=5, seed=0)

    cells = np.stack([np.bincount(labels[folds == fold], minlength=3) for fold in range(5)])
    assert cells == pytest.approx(np.tile(cells.mean(axis=0), (5, 1)), rel=0.25)


def test_folds_depend_on_the_seed_alone() -> None:
    units, labels = np.repeat(np.arange(20), 3), np.arange(60) % 3

    first, second, third = (assign_folds(units, labels, n_folds=4, seed=seed).tolist() for seed in (0, 0, 1))

    assert first == second != third


def test_folds_spread_the_people_of_a_class_that_is_rarer_than_folds() -> None:
    labels = np.array([0] * 40 + [1] * 3)

    folds = assign_folds(np.arange(43), labels, n_folds=5, seed=0)

    assert len(set(folds[40:].tolist())) == 3
    assert np.bincount(folds).tolist() == pytest.approx([43 / 5] * 5, abs=1)


@pytest.mark.parametrize("n_units", [2, 3, 7])
def test_each_fold_has_a_person_even_when_one_owns_nearly_all_faces(n_units: int) -> None:
    units = np.array([0] * 200 + list(range(n_units)))
    labels = np.array([0] * 100 + [1] * 100 + [0] * n_units)

    folds = assign_folds(units, labels, n_folds=n_units, seed=0)

    assert set(folds.tolist()) == set(range(n_units))


def test_each_fold_has_a_person_even_when_each_owns_a_class() -> None:
    units = np.repeat(np.arange(4), 5)

    folds = assign_folds(units, units, n_folds=4, seed=0)

    assert sorted(folds[::5].tolist()) == [0, 1, 2, 3]


@pytest.mark.parametrize(
    "subjects", [people(60, faces_each=4), None, [None, *people(59, faces_each=5)]], ids=["people", "faces", "some"]
)
def test_face_is_answered_once_by_a_choice_that_saw_no_face_of_its_person(subjects: Any) -> None:
    spy, labels = Spy(), np.arange(60) % 2
    library = Spy.asked_about([(labels, subjects)])

    found = cross_fit(library, {"spy": spy}, n_repeats=1)

    units = library.kinds[0].units
    calls = spy.calls(found.probs[0][0])
    assert len(spy.shown) == 5
    assert sorted(set(calls)) == [1, 2, 3, 4, 5]
    for face, call in enumerate(calls):
        shown = spy.shown[call - 1][0]
        assert not set(np.flatnonzero(units == units[face]).tolist()) & shown
        assert shown == {other for other, theirs in enumerate(calls) if theirs != call}


def test_choice_by_two_kinds_of_faces_saw_neither_the_people_of_one_nor_of_the_other() -> None:
    spy, sizes = Spy(), (60, 36)
    library = Spy.asked_about([(np.arange(n) % 2, people(n, faces_each=4)) for n in sizes])

    found = cross_fit(library, {"spy": spy}, n_repeats=1)

    for place, n in enumerate(sizes):
        calls = spy.calls(found.probs[place][0])
        units = library.kinds[place].units
        assert len(calls) == n
        for face, call in enumerate(calls):
            assert not set(np.flatnonzero(units == units[face]).tolist()) & spy.shown[call - 1][place]


def test_each_division_answers_every_face_once(make_pool: Make, library_of: Make) -> None:
    library = library_of(*make_pool(samples=60), people(60, faces_each=5))

    found = cross_fit(library, {"single": choose_single, "average": choose_uniform}, n_repeats=4)

    labels, units = library.kinds[0].faces.labels, library.kinds[0].units
    n_true = np.stack([np.bincount(labels[units == unit], minlength=4) for unit in range(12)])
    for of_way in found.confusions[0]:  # [units, classes (truth), classes]
        assert of_way.sum(axis=2) == pytest.approx(n_true)


def test_cross_fit_of_a_fixed_choice_is_its_own_answer(make_pool: Make, library_of: Make) -> None:
    probs, labels = make_pool(samples=60)
    library = library_of(probs, labels)

    found = cross_fit(library, {"first": take_first}, n_repeats=2)

    assert found.probs[0][0] == pytest.approx(probs[0])
    assert found.confusions[0][0].sum(axis=0) == pytest.approx(confusion_matrix(labels, probs[0].argmax(axis=1), 4))
    assert found.place("first") == 0


def test_cross_fit_depends_on_the_seed_alone(make_pool: Make, library_of: Make) -> None:
    library = library_of(*make_pool(samples=60))

    first, second, third = (
        cross_fit(library, {"single": choose_single}, seed=seed).confusions[0].tolist() for seed in (0, 0, 1)
    )

    assert first == second != third


def test_cross_fit_has_no_more_folds_than_people(make_pool: Make, library_of: Make) -> None:
    library = library_of(*make_pool(samples=60), people(60, faces_each=20))

    found = cross_fit(library, {"single": choose_single})

    assert found.n_folds == 3
    assert found.confusions[0].sum() == pytest.approx(60)


def test_cross_fit_survives_a_class_of_one_person(make_pool: Make, library_of: Make) -> None:
    probs, labels = make_pool(samples=60)
    labels = np.where(labels == 3, 0, labels)
    labels[:5] = 3

    found = cross_fit(library_of(probs, labels, people(60, faces_each=5)), {"single": choose_single})

    assert found.confusions[0].sum(axis=(1, 3))[0, 3] == pytest.approx(5)


def test_cross_fit_chooses_the_epoch_again_and_so_is_not_flattered_by_the_best(library_of: Make) -> None:
    naive, fitted = [], []
    for seed in range(40):
        generator = np.random.default_rng(seed)
        labels, said = generator.integers(0, 2, 200), generator.random((10, 200))
        epochs = np.stack([said, 1 - said], axis=2)  # each knows nothing
        best = epochs[library_of(epochs, labels).alone().argmax()]
        library = replace(library_of(best[None], labels), variants=(epochs,))

        found = cross_fit(library, {"first": take_first}, n_repeats=1)

        naive.append(library.alone()[0])
        fitted.append(np.trace(found.confusions[0][0].sum(axis=0)) / 200)
    assert np.mean(naive) > 0.54
    assert np.mean(fitted) == pytest.approx(0.5, abs=0.015)


def test_cross_fit_trains_no_bags_of_configs_that_are_not_best_without_the_fold(
    answers_of: Make, library_of: Make
) -> None:
    labels, places = np.arange(60) % 2, np.arange(60)
    right_early, right_late = (np.where(early, labels, 1 - labels) for early in (places < 30, places >= 30))
    library = library_of(
        np.stack([answers_of(said, classes=2) for said in (right_early, right_late, right_early, right_late)]),
        labels,
        [f"p{place // 30}" for place in places],
        names=["t-early", "t-late", "b-early", "b-late"],
        is_trial=[True, True, False, False],
        is_bag=[False, False, True, True],
        config=[0, 1, 0, 1],
    )
    shown = []

    def spy(some: Library, seed: int) -> npt.NDArray[np.float64]:
        shown.append((some.kinds[0].faces.probs[0, 0, 0] > 0.5, some.traits.names))
        return np.eye(some.n_candidates)[-1]

    found = cross_fit(replace(library, n_configs=1), {"spy": spy}, n_repeats=1)

    assert dict(shown) == {True: ("t-early", "t-late", "b-early"), False: ("t-early", "t-late", "b-late")}
    assert np.trace(found.confusions[0][0].sum(axis=0)) == 0  # the bag that suits the one person fails on the other


def test_cross_fit_tells_how_far_it_is(make_pool: Make, library_of: Make) -> None:
    told: list[float] = []

    cross_fit(library_of(*make_pool(samples=40)), {"single": choose_single}, n_repeats=2, progress=told.append)

    assert told == pytest.approx(np.arange(1, 11) / 10)


def test_cross_fit_refuses_faces_of_one_person(make_pool: Make) -> None:
    many, one = make_pool(samples=20), make_pool(samples=1)
    library = Library((make_kind(*many, None), make_kind(*one, None)), plain_traits(6))

    with pytest.raises(EnsembleError, match="an estimate needs 2 people or faces or more, got 1"):
        cross_fit(library, {"single": choose_single})


def test_fixed_answers_are_those_of_the_votes(make_pool: Make) -> None:
    probs, labels = make_pool(candidates=2, samples=60)
    kind = make_kind(probs, labels, people(60, faces_each=6))
    rows = {"first": np.array([1.0, 0.0]), "both": np.array([0.5, 0.5])}

    found = fixed_answers(kind, rows)

    assert found.names == ("first", "both")
    for place, weights in enumerate(rows.values()):
        vote = soft_vote(probs, weights)
        assert found.probs[0][place] == pytest.approx(vote)
        assert found.confusions[0][place].sum(axis=0) == pytest.approx(confusion_matrix(labels, vote.argmax(axis=1), 4))
    assert found.confusions[0].shape == (2, 10, 4, 4)
