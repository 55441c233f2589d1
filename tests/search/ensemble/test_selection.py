"""Ways to choose who votes, and with how much weight."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from search.ensemble import selection
from search.ensemble.blending import best_blend_weight, soft_vote
from search.ensemble.greedy import TIE
from search.ensemble.model_library import Library, make_kind, plain_traits
from search.ensemble.selection import (
    METHODS,
    blend_towards,
    choose_bagged,
    choose_blend,
    choose_by_backbone,
    choose_by_strength,
    choose_greedy,
    choose_members,
    choose_on_people,
    choose_single,
    choose_uniform,
    limited,
)
from spaces.errors import EnsembleError

Make = Callable[..., Any]

each_method = pytest.mark.parametrize("method", METHODS.values(), ids=METHODS.keys())


def of_two_kinds(make_pool: Make, objective: Any) -> Library:
    pools = [make_pool(candidates=8, samples=n, seed=seed) for n, seed in ((120, 0), (80, 1))]
    return Library(tuple(make_kind(*pool, None) for pool in pools), plain_traits(8), objective)


@each_method
@pytest.mark.parametrize("n_candidates", [2, 5, 20])
def test_weights_are_shares_of_a_vote(make_pool: Make, library_of: Make, method: Any, n_candidates: int) -> None:
    library = library_of(*make_pool(candidates=n_candidates, samples=80))

    weights = method.choose(library, 0)

    assert weights.shape == (n_candidates,)
    assert (weights >= 0).all()
    assert weights.sum() == pytest.approx(1)


@each_method
def test_weights_are_the_same_when_repeated(make_pool: Make, library_of: Make, method: Any) -> None:
    library = library_of(*make_pool(candidates=12, samples=80))

    first, second = (method.choose(library, 3).tolist() for _ in range(2))

    assert first == second


@each_method
def test_single_candidate_has_all_weight(make_pool: Make, library_of: Make, method: Any) -> None:
    library = library_of(*make_pool(candidates=1, samples=40))

    assert method.choose(library, 0).tolist() == [1.0]


@each_method
def test_equal_candidates_vote_as_one_of_them(make_pool: Make, library_of: Make, method: Any) -> None:
    probs, labels = make_pool(candidates=1, samples=60)
    library = library_of(np.repeat(probs, 2, axis=0), labels)

    weights = method.choose(library, 0)

    assert weights.sum() == pytest.approx(1)
    assert library.score(weights) == pytest.approx(library.alone()[0])


@each_method
def test_weak_candidates_have_no_vote(make_pool: Make, library_of: Make, method: Any) -> None:
    probs, labels = make_pool(candidates=6, samples=300)
    always_last = np.tile([0.01, 0.01, 0.01, 0.97], (20, 300, 1))
    library = library_of(np.concatenate([always_last, probs]), labels)

    weights = method.choose(library, 0)

    assert weights[:20].sum() == 0


@each_method
@pytest.mark.parametrize("objective", ["mean", "worst"])
def test_faces_of_two_kinds_choose_together(make_pool: Make, method: Any, objective: Any) -> None:
    library = of_two_kinds(make_pool, objective)

    weights = method.choose(library, 0)

    assert weights.sum() == pytest.approx(1)
    assert library.score(weights) > np.median(library.alone())


@each_method
def test_weights_are_found_where_a_class_is_missing(make_pool: Make, library_of: Make, method: Any) -> None:
    probs, labels = make_pool(samples=80)
    without_last = labels != 3

    weights = method.choose(library_of(probs[:, without_last], labels[without_last]), 0)

    assert weights.sum() == pytest.approx(1)


@each_method
@pytest.mark.parametrize("max_members", [1, 2, 4])
def test_members_are_no_more_than_allowed(make_pool: Make, library_of: Make, method: Any, max_members: int) -> None:
    library = library_of(*make_pool(candidates=12, samples=80, seed=1))

    weights = choose_members(method.choose, library, max_members=max_members, seed=0)

    assert 1 <= np.count_nonzero(weights) <= max_members
    assert weights.sum() == pytest.approx(1)
    assert limited(method.choose, max_members)(library, 0).tolist() == weights.tolist()


@each_method
def test_one_member_is_the_best_alone(make_pool: Make, library_of: Make, method: Any) -> None:
    library = library_of(*make_pool(candidates=12, samples=80, seed=1))

    weights = choose_members(method.choose, library, max_members=1, seed=0)

    assert np.flatnonzero(weights).tolist() == [library.alone().argmax()]


def test_too_many_members_are_chosen_among_again_with_the_best_alone(make_pool: Make, library_of: Make) -> None:
    library = library_of(*make_pool(candidates=6, samples=80))
    best = int(library.alone().argmax())
    asked: list[tuple[str, ...]] = []

    def all_but_the_best(some: Library, seed: int) -> Any:
        asked.append(some.traits.names)
        weights = np.where(np.array(some.traits.names) == str(best), 0.001, np.arange(1, some.n_candidates + 1))
        return weights / weights.sum()

    choose_members(all_but_the_best, library, max_members=3, seed=0)

    heaviest = [str(i) for i in range(6) if i != best][-2:]
    assert asked[1:] == [tuple(sorted([str(best), *heaviest]))]


def test_members_that_are_not_too_many_stay_as_they_were_chosen(make_pool: Make, library_of: Make) -> None:
    library = library_of(*make_pool(candidates=6, samples=80))

    weights = choose_members(choose_greedy, library, max_members=6, seed=0)

    assert weights.tolist() == choose_greedy(library, 0).tolist()


def test_nobody_can_not_be_chosen(make_pool: Make, library_of: Make) -> None:
    library = library_of(*make_pool())

    with pytest.raises(EnsembleError, match="max_members must be 1 or more, got 0"):
        choose_members(choose_single, library, max_members=0, seed=0)


def test_plain_average_leaves_out_those_cut_short(make_pool: Make, library_of: Make) -> None:
    probs, labels = make_pool(candidates=1)
    library = library_of(np.repeat(probs, 4, axis=0), labels, is_complete=[True, False, True, False])

    assert choose_uniform(library, 0).tolist() == [0.5, 0.0, 0.5, 0.0]


def test_plain_average_is_of_all_when_each_was_cut_short(make_pool: Make, library_of: Make) -> None:
    probs, labels = make_pool(candidates=1)
    library = library_of(np.repeat(probs, 4, axis=0), labels, is_complete=[False] * 4)

    assert choose_uniform(library, 0).tolist() == [0.25] * 4


@pytest.mark.parametrize(
    ("choose", "traits"),
    [
        (choose_by_backbone, {"backbones": ["wide", "small", "small", "small"]}),
        (choose_by_strength, {"is_strong": [True, False, False, False]}),
    ],
    ids=["backbone", "strength"],
)
def test_groups_have_equal_weight_and_so_has_each_in_its_group(
    make_pool: Make, library_of: Make, choose: Any, traits: dict[str, Any]
) -> None:
    probs, labels = make_pool(candidates=1)
    library = library_of(np.repeat(probs, 4, axis=0), labels, **traits)

    assert choose(library, 0) == pytest.approx([1 / 2, 1 / 6, 1 / 6, 1 / 6])


def test_group_of_weak_candidates_has_no_weight(answers_of: Make, library_of: Make) -> None:
    labels = np.arange(60) % 3
    right, wrong = answers_of(labels, classes=3), answers_of((labels + 1) % 3, classes=3)
    library = library_of(np.stack([right, wrong]), labels, backbones=["wide", "small"])

    assert choose_by_backbone(library, 0).tolist() == [1.0, 0.0]


@pytest.mark.parametrize(("objective", "chosen"), [("mean", 0), ("worst", 1)], ids=["mean", "worst"])
def test_best_single_is_the_best_by_the_objective(answers_of: Make, objective: Any, chosen: int) -> None:
    labels = np.arange(100) % 2

    def kind(*n_right: int) -> Any:
        preds = [np.where(np.arange(100) < n, labels, 1 - labels) for n in n_right]
        return make_kind(np.stack([answers_of(one, classes=2) for one in preds]), labels, None)

    library = Library((kind(100, 72, 60), kind(50, 70, 60)), plain_traits(3), objective)

    assert np.flatnonzero(choose_single(library, 0)).tolist() == [chosen]


@pytest.mark.parametrize("choose", [choose_single, choose_greedy], ids=["best_single", "greedy"])
@pytest.mark.parametrize("seed", range(4))
def test_choice_is_never_worse_here_than_the_best_alone(
    make_pool: Make, library_of: Make, choose: Any, seed: int
) -> None:
    library = library_of(*make_pool(candidates=7, samples=50, seed=seed))

    weights = choose(library, 0)

    assert library.score(weights) >= library.alone().max() - TIE


@pytest.mark.parametrize("choose", [choose_bagged, choose_on_people], ids=["candidates", "people"])
def test_bagging_spreads_weight_wider_than_greedy(make_pool: Make, library_of: Make, choose: Any) -> None:
    library = library_of(*make_pool(candidates=20, samples=200, seed=1))

    n_bagged, n_greedy = (np.count_nonzero(way(library, 0)) for way in (choose, choose_greedy))

    assert n_bagged > n_greedy


@pytest.mark.parametrize("choose", [choose_bagged, choose_on_people], ids=["candidates", "people"])
def test_bagging_depends_on_the_seed_alone(make_pool: Make, library_of: Make, choose: Any) -> None:
    library = library_of(*make_pool(candidates=20, samples=80))

    first, second, third = (choose(library, seed).tolist() for seed in (0, 0, 1))

    assert first == second != third


def test_bagging_combines_two_candidates_that_err_elsewhere(answers_of: Make, library_of: Make) -> None:
    labels = np.tile([0, 1], 50)
    first_half = np.arange(100)[:, None] < 50
    right, wrong = answers_of(labels, classes=2), answers_of(1 - labels, classes=2, sure=0.55)
    library = library_of(np.stack([np.where(first_half, right, wrong), np.where(first_half, wrong, right)]), labels)

    weights = choose_bagged(library, 0)

    assert library.score(weights) == 1.0 > library.alone().max()
    assert (weights > 0).all()


def test_bags_that_do_not_reach_the_best_alone_have_no_say(answers_of: Make, library_of: Make) -> None:
    generator = np.random.default_rng(0)
    labels = generator.integers(0, 3, 120)
    said = [np.where(generator.random(120) < 0.85, labels, (labels + 1) % 3) for _ in range(9)]
    library = library_of(np.stack([answers_of(one, classes=3) for one in (*said, labels)]), labels)

    weights = choose_bagged(library, 0)

    assert np.flatnonzero(weights).tolist() == [9]


def test_bagging_would_vote_for_who_only_shifts_faces_between_classes_if_the_weak_were_let_in(
    library_of: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    generator = np.random.default_rng(0)
    labels = generator.integers(0, 3, 300)
    shy_of_the_last = np.exp(2 * (np.eye(3)[labels] * 0.4 + generator.random((4, 300, 3)) - [0.0, 0.0, 0.6]))
    always_last = np.tile([0.2, 0.2, 0.6], (1, 300, 1))
    shy = shy_of_the_last / shy_of_the_last.sum(axis=2, keepdims=True)
    library = library_of(np.concatenate([shy, always_last]), labels)

    strict = choose_bagged(library, 0)
    monkeypatch.setattr(selection, "LEAST_SHARE", 0.0)

    assert strict[4] == 0 < choose_bagged(library, 0)[4]


def test_bagging_over_people_draws_whole_people(
    make_pool: Make, library_of: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    probs, labels = make_pool(candidates=6, samples=60)
    subjects = [f"p{row // 10}" for row in range(60)]
    seen: list[list[int]] = []

    def spied(faces: Any, **options: Any) -> Any:
        ids = [int(np.flatnonzero((probs[0] == own).all(axis=1))[0]) for own in faces[0].probs[0]]
        seen.append(np.bincount(ids, weights=faces[0].counts, minlength=60).astype(int).tolist())
        return real(faces, **options)

    real = selection.greedy
    monkeypatch.setattr(selection, "greedy", spied)
    choose_on_people(library_of(probs, labels, subjects), 0)

    assert len(seen) == selection.N_BAGS
    for times in np.array(seen).reshape(-1, 6, 10):
        assert (times == times[:, :1]).all()
        assert times[:, 0].sum() == 6


def test_blend_lies_between_the_average_and_the_bagged_and_is_no_worse_here(make_pool: Make, library_of: Make) -> None:
    for seed in range(4):
        library = library_of(*make_pool(candidates=8, samples=80, seed=seed))
        average, bagged = choose_uniform(library, 0), choose_bagged(library, 0)

        blended = choose_blend(library, 0)

        ends = library.score(average), library.score(bagged)
        assert library.score(blended) >= max(ends) - TIE
        assert (blended >= np.minimum(average, bagged) - 1e-12).all()
        assert (blended <= np.maximum(average, bagged) + 1e-12).all()


def test_blending_counts_a_face_as_often_as_it_was_drawn(make_pool: Make, library_of: Make) -> None:
    probs, labels = make_pool(candidates=4, samples=80)
    library = library_of(probs, labels).redrawn(np.random.default_rng(0))
    average, selected = np.full(4, 0.25), np.array([0.7, 0.3, 0.0, 0.0])

    weight = blend_towards(library, average, selected)

    faces = library.kinds[0].faces
    repeated = np.repeat(np.arange(len(faces.labels)), faces.counts)
    votes = [soft_vote(faces.probs[:, repeated], weights) for weights in (average, selected)]
    assert weight == pytest.approx(best_blend_weight(*votes, faces.labels[repeated]))


def test_methods_begin_with_what_fits_nothing(make_pool: Make, library_of: Make) -> None:
    probs, labels = make_pool(candidates=1, samples=60)
    same = np.repeat(probs, 3, axis=0)
    names = list(METHODS)

    groups = [METHODS[name].choose(library_of(same, labels), 0).tolist() for name in names[:3]]

    assert groups == [pytest.approx([1 / 3] * 3)] * 3
    assert names.index("best_single") < names.index("bagged") < names.index("greedy") < names.index("evolved")


def test_traits_do_not_count_for_ways_that_select(make_pool: Make, library_of: Make) -> None:
    probs, labels = make_pool(candidates=6, samples=80)
    library = library_of(probs, labels)
    cut_short = replace(library, traits=replace(library.traits, is_complete=np.zeros(6, dtype=bool)))

    for choose in (choose_single, choose_greedy, choose_bagged, choose_on_people):
        assert choose(cut_short, 0).tolist() == choose(library, 0).tolist()
