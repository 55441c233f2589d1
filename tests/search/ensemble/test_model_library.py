"""What is known of the candidates: on all faces, on some of them, and on drawn ones."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from search.ensemble.blending import soft_vote
from search.ensemble.macro_f1 import macro_f1_of_probs
from search.ensemble.model_library import Library, make_kind, plain_traits, units_of
from spaces.errors import EnsembleError
from trainables.metrics import macro_f1

Make = Callable[..., Any]

HALF = np.arange(60) < 30
"""Of 60 faces, those that are known."""


def people(n: int, *, faces_each: int) -> list[str]:
    return [f"p{row // faces_each}" for row in range(n)]


def test_library_scores_a_vote_as_macro_f1_of_the_average(make_pool: Make, library_of: Make) -> None:
    probs, labels = make_pool(candidates=3)
    weights = np.array([0.5, 0.2, 0.3])

    score = library_of(probs, labels).score(weights)

    assert score == pytest.approx(macro_f1(labels, soft_vote(probs, weights).argmax(axis=1), 4))


def test_library_scores_each_candidate_alone(make_pool: Make, library_of: Make) -> None:
    probs, labels = make_pool()

    alone = library_of(probs, labels).alone()

    assert alone == pytest.approx([macro_f1(labels, one.argmax(axis=1), 4) for one in probs])


@pytest.mark.parametrize(("objective", "combine"), [("mean", np.mean), ("worst", np.min)], ids=["mean", "worst"])
def test_library_of_two_kinds_makes_one_score_of_both(make_pool: Make, objective: Any, combine: Any) -> None:
    pools = [make_pool(candidates=5, seed=seed) for seed in (0, 1)]
    library = Library(tuple(make_kind(*pool, None) for pool in pools), plain_traits(5), objective)

    alone, vote = library.alone(), library.score(np.full(5, 0.2))

    of_kinds = [macro_f1_of_probs(*pool) for pool in pools]
    votes = [macro_f1(labels, probs.mean(axis=0).argmax(axis=1), 4) for probs, labels in pools]
    assert alone == pytest.approx(combine(of_kinds, axis=0))
    assert vote == pytest.approx(combine(votes))


def test_library_of_some_candidates_keeps_what_is_known_of_them(make_pool: Make, library_of: Make) -> None:
    probs, labels = make_pool(candidates=3)
    library = library_of(
        probs,
        labels,
        names=["t0", "t1", "b0"],
        is_bag=[False, False, True],
        config=[4, 5, 4],
        backbones=["a", "b", "c"],
    )
    library = replace(library, variants=(None, probs[1:2], None))

    some = library.only(np.array([1, 2]))

    assert some.n_candidates == 2
    assert (some.traits.names, some.traits.backbones) == (("t1", "b0"), ("b", "c"))
    assert (some.traits.is_bag.tolist(), some.traits.config.tolist()) == ([False, True], [5, 4])
    assert some.variants[0] is library.variants[1] and some.variants[1] is None
    assert some.alone() == pytest.approx(library.alone()[1:])


def test_redrawn_library_has_as_many_people_as_there_are(make_pool: Make, library_of: Make) -> None:
    probs, labels = make_pool(samples=60)
    library = library_of(probs, labels, people(60, faces_each=5))

    drawn = library.redrawn(np.random.default_rng(0)).kinds[0]

    times = np.stack([np.bincount(drawn.units, weights=drawn.faces.counts == n, minlength=12) for n in range(13)])
    assert ((times == 0) | (times == 5)).all()  # a person's faces all as often as each other
    assert times.argmax(axis=0).sum() == drawn.n_units == library.kinds[0].n_units == 12
    assert 0 < (times[1:].sum(axis=0) > 0).sum() < 12


def test_redrawn_library_is_that_of_repeated_faces(make_pool: Make, library_of: Make) -> None:
    probs, labels = make_pool(samples=60)
    generator, same = np.random.default_rng(3), np.random.default_rng(3)
    rows = same.integers(60, size=60)

    drawn = library_of(probs, labels).redrawn(generator)

    assert drawn.alone() == pytest.approx(macro_f1_of_probs(probs[:, rows], labels[rows]))


def test_library_inside_takes_the_epoch_that_is_best_there(answers_of: Make, library_of: Make) -> None:
    labels = np.arange(60) % 3
    good_inside, good_outside = np.where(HALF, labels, 0), np.where(HALF, 0, labels)
    variants = np.stack([answers_of(preds, classes=3) for preds in (good_outside, good_inside)])
    library = replace(library_of(variants[:1], labels), variants=(variants,))

    inside = library.inside([HALF])

    assert inside.kinds[0].faces.probs[0].tolist() == variants[1, HALF].tolist()
    assert inside.kinds[0].faces.labels.tolist() == labels[HALF].tolist()
    assert library.answers_chosen_by(HALF)[0].tolist() == variants[1].tolist()
    assert library.answers_chosen_by(~HALF)[0].tolist() == variants[0].tolist()


def test_library_inside_leaves_candidates_as_they_are_whose_epochs_are_not_known(
    make_pool: Make, library_of: Make
) -> None:
    probs, labels = make_pool(candidates=2, samples=60)
    library = replace(library_of(probs, labels), variants=(None, probs[[0, 1]]))

    chosen = library.answers_chosen_by(HALF)

    assert chosen[0].tolist() == probs[0].tolist()
    assert library_of(probs, labels).answers_chosen_by(HALF).tolist() == probs.tolist()


def test_library_inside_numbers_the_people_that_are_known(make_pool: Make, library_of: Make) -> None:
    probs, labels = make_pool(samples=60)
    library = library_of(probs, labels, people(60, faces_each=3))

    inside = library.inside([~HALF]).kinds[0]

    assert (inside.unit, inside.n_units) == ("subject", 10)
    assert np.bincount(inside.units).tolist() == [3] * 10


def test_library_inside_keeps_some_faces_of_each_kind(make_pool: Make) -> None:
    first, second = make_pool(samples=60, seed=0), make_pool(samples=40, seed=1)
    library = Library((make_kind(*first, None), make_kind(*second, None)), plain_traits(6))

    inside = library.inside([HALF, np.arange(40) % 4 > 0])

    assert [len(faces.labels) for faces in inside.faces] == [30, 30]
    assert inside.faces[1].probs.tolist() == second[0][:, np.arange(40) % 4 > 0].tolist()


def test_bags_of_configs_that_are_not_best_would_not_be_there(answers_of: Make, library_of: Make) -> None:
    labels = np.arange(60) % 3
    preds = [np.where(np.arange(60) < n_right, labels, (labels + 1) % 3) for n_right in (20, 50, 40, 60, 10)]
    library = library_of(
        np.stack([answers_of(one, classes=3) for one in preds]),
        labels,
        names=["t0", "t1", "t2", "b-of-t0", "b-of-t1"],
        is_trial=[True, True, True, False, False],
        is_bag=[False, False, False, True, True],
        config=[0, 1, 2, 0, 1],
    )

    one, two, all_of_them = (replace(library, n_configs=n).would_be_there().tolist() for n in (1, 2, 3))

    assert one == two == [0, 1, 2, 4]
    assert all_of_them == [0, 1, 2, 3, 4]


def test_config_of_two_trials_counts_once_among_the_best(answers_of: Make, library_of: Make) -> None:
    labels = np.arange(60) % 3
    preds = [np.where(np.arange(60) < n_right, labels, (labels + 1) % 3) for n_right in (60, 55, 50, 20, 20)]
    library = library_of(
        np.stack([answers_of(one, classes=3) for one in preds]),
        labels,
        is_trial=[True, True, True, False, False],
        is_bag=[False, False, False, True, True],
        config=[0, 0, 1, 0, 1],
    )

    assert replace(library, n_configs=2).would_be_there().tolist() == [0, 1, 2, 3, 4]
    assert replace(library, n_configs=1).would_be_there().tolist() == [0, 1, 2, 3]


def test_all_would_be_there_when_there_are_no_bags_or_no_trials(make_pool: Make, library_of: Make) -> None:
    probs, labels = make_pool(candidates=3)

    no_bags = library_of(probs, labels)
    no_trials = library_of(probs, labels, is_trial=[False] * 3, is_bag=[True] * 3)

    assert no_bags.would_be_there().tolist() == no_trials.would_be_there().tolist() == [0, 1, 2]


def test_kind_leaves_faces_without_a_label_and_people_without_a_face_out(make_pool: Make) -> None:
    probs, labels = make_pool(samples=60)
    labels[:20] = -1

    kind = make_kind(probs, labels, people(60, faces_each=10))

    assert (len(kind.faces.labels), kind.unit, kind.n_units) == (40, "subject", 4)


def test_units_are_faces_where_fewer_than_two_people_are_known() -> None:
    labelled = np.array([True, False, True, True])

    for subjects in (None, [None] * 4, ["one", "two", "one", None]):
        units, unit = units_of(subjects, labelled)
        assert (units.tolist(), unit) == ([0, 1, 2], "row")


def test_face_without_a_person_is_a_unit_by_itself() -> None:
    units, unit = units_of(["ann", None, "bob", None, "ann"], np.ones(5, dtype=bool))

    assert unit == "subject"
    assert len(set(units.tolist())) == 4
    assert units[0] == units[4]


def test_units_refuse_people_of_another_number() -> None:
    with pytest.raises(EnsembleError, match=r"subjects must be one a sample \(2\), got 3"):
        units_of(["ann", "bob", "cem"], np.ones(2, dtype=bool))


def test_kind_refuses_faces_without_any_label(make_pool: Make) -> None:
    probs, _ = make_pool(samples=3)

    with pytest.raises(EnsembleError, match="labels must name a class for some sample, got 3 samples and none of them"):
        make_kind(probs, [-1, -1, -1], None)
