"""What to expect of a choice on new people."""

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from search.ensemble.crossfit import CrossFit, cross_fit
from search.ensemble.estimate import Judgement, honest_estimate, judge
from search.ensemble.greedy import best_single
from search.ensemble.model_library import Library, make_kind, plain_traits
from search.ensemble.selection import METHODS, choose_single, choose_uniform
from spaces.errors import EnsembleError
from trainables.metrics import macro_f1

Make = Callable[..., Any]
Numbers = npt.NDArray[np.float64]

WAYS = ("uniform", "best_single", "greedy")


def answered(*is_right: npt.NDArray[np.bool_], classes: int = 2) -> CrossFit:
    """Ways named a, b, ... that were right on some faces of one person each, [units], wrong by one class else."""
    n_units = len(is_right[0])
    labels = np.arange(n_units) % classes
    confusions = np.zeros((len(is_right), n_units, classes, classes))
    for way, right in enumerate(is_right):
        confusions[way, np.arange(n_units), labels, np.where(right, labels, (labels + 1) % classes)] = 1.0
    names = tuple("abcdef"[: len(is_right)])
    return CrossFit(names, (confusions,), (np.zeros((len(is_right), n_units, classes)),), n_folds=5)


def any_library(n_units: int, *, kinds: int = 1, objective: Any = "mean") -> Library:
    """Two candidates that say nothing of faces of two classes."""
    kind = make_kind(np.full((2, n_units, 2), 0.5), np.arange(n_units) % 2, None)
    return Library((kind,) * kinds, plain_traits(2), objective)


def judge_alone(*is_right: npt.NDArray[np.bool_], among: str, seed: int = 0) -> Judgement:
    return judge(answered(*is_right), any_library(len(is_right[0])), among=list(among), seed=seed)


def right_about(share: float, *, n: int = 400, seed: int = 0) -> npt.NDArray[np.bool_]:
    return np.asarray(np.random.default_rng(seed).random(n) < share)


def test_simplest_way_is_taken_when_it_is_within_a_standard_error_of_the_best() -> None:
    simple = right_about(0.7)
    slightly_better = simple.copy()
    slightly_better[np.flatnonzero(~simple)[:8]] = True
    slightly_better[np.flatnonzero(simple)[:6]] = False

    found = judge_alone(simple, slightly_better, among="ab")

    assert found.scores[0, 1] > found.scores[0, 0]
    assert found.chosen == "a"


def test_better_way_is_taken_when_it_is_better_by_more() -> None:
    simple = right_about(0.7)
    better = simple.copy()
    better[np.flatnonzero(~simple)[:8]] = True  # and nowhere worse: on the same people that is no luck

    found = judge_alone(simple, better, among="ab")

    assert found.chosen == "b"


def test_way_that_may_not_be_chosen_is_not_chosen() -> None:
    found = judge_alone(right_about(0.6), right_about(0.65, seed=1), right_about(0.99), among="ab")

    assert found.chosen in "ab"
    assert found.score("c") == found.scores[0, 2] > 0.9


def test_choosing_is_paid_for_by_the_chosen_alone() -> None:
    coins = [right_about(0.5, n=60, seed=seed) for seed in range(5)]

    found = judge_alone(*coins, among="abcde")

    assert found.lost > 0
    place = found.cross.place(found.chosen)
    assert found.score(found.chosen) == pytest.approx(found.scores[0, place] - found.lost)
    for other in set("abcde") - {found.chosen}:
        assert found.score(other) == found.scores[0, found.cross.place(other)]


@pytest.mark.parametrize(
    ("n_people", "n_ways", "seed"), [(20, 6, 38), (20, 6, 28), (60, 2, 47)], ids=["few", "few others", "two ways"]
)
def test_nothing_is_gained_by_having_chosen_even_when_the_draws_happen_to_say_so(
    n_people: int, n_ways: int, seed: int
) -> None:
    ways = [right_about(0.5 + 0.02 * place, n=n_people, seed=100 * seed + place) for place in range(n_ways)]

    found = judge_alone(*ways, among="abcdef"[:n_ways])

    assert found.lost == 0


def test_nothing_is_lost_where_there_was_no_choice() -> None:
    found = judge_alone(right_about(0.6), right_about(0.9), among="a")

    assert (found.chosen, found.lost) == ("a", 0.0)


def test_judgement_depends_on_the_seed_alone() -> None:
    ways = right_about(0.6, n=60), right_about(0.6, n=60, seed=1)

    first, second, third = (judge_alone(*ways, among="ab", seed=seed).interval("a") for seed in (0, 0, 1))

    assert first == second != third


def test_difference_is_that_of_the_same_people() -> None:
    alike = right_about(0.6)
    nearly = alike.copy()
    nearly[:20] = ~nearly[:20]
    found = judge_alone(alike, nearly, among="a")

    difference = found.difference("a", "b")

    low, high = found.draws[0].inside[:, 0].std(), found.draws[0].inside[:, 1].std()
    independent = 2 * 1.645 * np.hypot(low, high)
    assert difference.score == pytest.approx(found.score("a") - found.score("b"))
    assert difference.low < difference.score < difference.high
    assert difference.high - difference.low < independent / 2


def test_difference_of_a_way_from_itself_is_none() -> None:
    difference = judge_alone(right_about(0.6), among="a").difference("a", "a")

    assert (difference.score, difference.low, difference.high) == (0.0, 0.0, 0.0)


def test_estimate_knows_how_good_the_score_was_that_chose(make_pool: Make, library_of: Make) -> None:
    library = library_of(*make_pool(candidates=12, samples=150))
    weights = choose_single(library, 0)
    cross = cross_fit(library, {"single": choose_single, "average": choose_uniform})

    judgement = judge(cross, library, among=["single"])
    found = judgement.estimate("single", library, weights)

    assert found.chosen_on == pytest.approx(library.alone().max())
    assert found.score == judgement.score("single")
    assert found.optimism == pytest.approx(found.chosen_on - found.score)
    assert (found.interval.unit, found.interval.n_units) == ("row", 150)
    assert found.interval.low < found.score < found.interval.high


def test_score_to_expect_is_not_above_the_one_it_was_chosen_by() -> None:
    library = any_library(400)  # of whose faces a third is the macro-F1 of any vote
    weights = {name: np.array([0.5, 0.5]) for name in "ab"}
    cross = answered(right_about(0.8), right_about(0.9, seed=1))

    flattering = judge(cross, library, among=["a", "b"]).estimate("b", library, weights["b"])
    judgement = judge(cross, library, among=["a", "b"], weights=weights)
    found = judgement.estimate("b", library, weights["b"])

    assert flattering.score > 0.85 and flattering.optimism < -0.5
    assert found.score == found.chosen_on == pytest.approx(1 / 3) and found.optimism == 0.0
    assert found.interval.low < found.score < found.interval.high
    assert judgement.difference("b", "a").score == 0.0


def test_interval_for_other_people_is_wider_than_for_the_mean_of_all() -> None:
    library = any_library(400)
    found = judge_alone(right_about(0.6), among="a")

    low, high = found.interval("a")

    elsewhere = found.estimate("a", library, np.array([1.0, 0.0])).interval
    assert elsewhere.high - elsewhere.low == pytest.approx(np.sqrt(2) * (high - low), rel=0.15)


@pytest.mark.parametrize("share", [0.0, 1.0], ids=["always wrong", "always right"])
def test_interval_stays_within_0_and_1(share: float) -> None:
    nearly = right_about(share, n=20)
    nearly[0] = not share
    found = judge_alone(nearly, among="a")

    interval = found.estimate("a", any_library(20), np.array([1.0, 0.0])).interval

    assert 0 <= interval.low <= interval.high <= 1


@pytest.mark.parametrize(("objective", "chosen"), [("mean", "a"), ("worst", "b")], ids=["mean", "worst"])
def test_way_is_taken_by_the_objective_on_two_kinds(objective: Any, chosen: str) -> None:
    first, second = (
        answered(right_about(ours, seed=seed), right_about(theirs, seed=seed))
        for ours, theirs, seed in ((0.95, 0.7, 0), (0.6, 0.7, 1))
    )
    both = CrossFit(first.names, first.confusions + second.confusions, first.probs + second.probs, n_folds=5)

    found = judge(both, any_library(400, kinds=2, objective=objective), among=["b", "a"])

    assert found.chosen == chosen
    assert found.scores.shape == (2, 2)
    other = "b" if chosen == "a" else "a"
    assert found.score(other, kind=0) != found.score(other, kind=1)


def test_standard_error_is_that_of_the_objective() -> None:
    simple = right_about(0.5)
    surely_better = simple.copy()
    surely_better[np.flatnonzero(~simple)[:4]] = True
    first = answered(simple, surely_better)
    second = answered(right_about(0.75, seed=1), right_about(0.75, seed=2))
    both = CrossFit(first.names, first.confusions + second.confusions, first.probs + second.probs, n_folds=5)

    found = judge(both, any_library(400, kinds=2, objective="worst"), among=["a", "b"])

    assert found.chosen == "b"  # how the two differ on the better kind by luck does not count


def test_estimate_of_a_choice_among_guesses_is_that_of_a_guess(library_of: Make) -> None:
    naive, honest = [], []
    for seed in range(25):
        generator = np.random.default_rng(seed)
        probs, labels = generator.dirichlet(np.ones(3), size=(30, 600)), generator.integers(0, 3, 600)
        library = library_of(probs, labels)
        weights = choose_single(library, 0)

        cross = cross_fit(library, {"single": choose_single}, n_repeats=1)
        found = judge(cross, library, among=["single"]).estimate("single", library, weights)

        naive.append(found.chosen_on)
        honest.append(found.score)
    assert np.mean(naive) > 1 / 3 + 0.03
    assert np.mean(honest) == pytest.approx(1 / 3, abs=0.01)


@pytest.mark.slow
def test_estimate_of_a_choice_among_ways_to_choose_among_guesses_is_nearly_that_of_a_guess(library_of: Make) -> None:
    naive, uncorrected, honest = [], [], []
    ways = {name: METHODS[name].choose for name in WAYS}
    for seed in range(60):
        generator = np.random.default_rng(seed)
        probs, labels = generator.dirichlet(np.ones(3), size=(20, 300)), generator.integers(0, 3, 300)
        library = library_of(probs, labels)

        found = judge(cross_fit(library, ways, n_repeats=1), library, among=list(ways))

        naive.append(library.score(ways["greedy"](library, 0)))
        uncorrected.append(found.scores[0, found.cross.place(found.chosen)])
        honest.append(found.score(found.chosen))
    assert np.mean(naive) > 1 / 3 + 0.08
    assert np.mean(honest) < np.mean(uncorrected)
    assert np.mean(honest) == pytest.approx(1 / 3, abs=0.015)


@pytest.mark.slow
def test_interval_covers_the_score_on_as_many_new_people() -> None:
    ways = {name: METHODS[name].choose for name in WAYS}
    covered, errors = 0, []
    for seed in range(20):
        generator = np.random.default_rng(seed)
        skills = generator.uniform(0.3, 2.0, size=12)
        here, there = (Library((make_kind(*new_people(skills, generator)),), plain_traits(12)) for _ in range(2))
        judgement = judge(cross_fit(here, ways, n_repeats=1), here, among=list(ways))
        weights = ways[judgement.chosen](here, 0)

        found = judgement.estimate(judgement.chosen, here, weights)

        score = there.score(weights)
        covered += found.interval.low <= score <= found.interval.high
        errors.append(found.score - score)
    assert covered >= 16
    assert np.mean(errors) == pytest.approx(0.0, abs=0.02)


def new_people(skills: Numbers, generator: np.random.Generator) -> tuple[Numbers, npt.NDArray[np.int64], list[str]]:
    """800 faces of 100 people: candidates of given skills who err together, on some people more than on others."""
    n_people, classes = 100, 5
    person = np.repeat(np.arange(n_people), 8)
    labels = generator.choice(classes, size=len(person), p=[0.35, 0.25, 0.2, 0.12, 0.08])
    ease = 0.5 * generator.normal(size=n_people)[person]
    shared = generator.normal(size=(len(person), classes)) + 0.7 * generator.normal(size=(n_people, classes))[person]
    logits = shared + generator.normal(size=(len(skills), len(person), classes))
    logits[:, np.arange(len(person)), labels] += np.maximum(skills[:, None] + ease, 0.0)
    exponents = np.exp(logits)
    return exponents / exponents.sum(axis=2, keepdims=True), labels, [f"p{number}" for number in person]


def select_best(probs: npt.NDArray[Any], labels: npt.NDArray[Any], counts: npt.NDArray[Any]) -> Numbers:
    return best_single(probs, labels, counts=counts).weights


def test_honest_estimate_of_choosing_among_coins_is_lower_than_their_best_score() -> None:
    generator = np.random.default_rng(0)
    labels = generator.integers(2, size=120)
    probs = generator.dirichlet([1, 1], size=(30, 120))

    estimate = honest_estimate(probs, labels, select=select_best)

    assert estimate.chosen_on > 0.56
    assert estimate.score == pytest.approx(0.5, abs=0.04)
    assert estimate.interval.low < estimate.score < estimate.interval.high


def test_honest_estimate_of_no_choice_is_near_the_score(make_pool: Make) -> None:
    probs, labels = make_pool(candidates=1, samples=600)

    estimate = honest_estimate(probs, labels, select=select_best)

    assert estimate.score == pytest.approx(macro_f1(labels, probs[0].argmax(axis=1), 4), abs=0.02)


def test_honest_estimate_selects_and_scores_on_different_people(make_pool: Make) -> None:
    probs, labels = make_pool(samples=200)
    subjects = [f"person {row // 20}" for row in range(200)]
    seen: list[int] = []

    def select(some: npt.NDArray[Any], truth: npt.NDArray[Any], counts: npt.NDArray[Any]) -> npt.NDArray[Any]:
        seen.append(some.shape[1])
        return np.eye(len(some))[0]

    estimate = honest_estimate(probs, labels, subjects, select=select, n_draws=20)

    assert all(n % 20 == 0 and n < 200 for n in seen[:-1])
    assert (estimate.interval.unit, estimate.interval.n_units) == ("subject", 10)


def test_honest_estimate_is_repeatable(make_pool: Make) -> None:
    probs, labels = make_pool(candidates=3, samples=40)

    first, second = (honest_estimate(probs, labels, select=select_best, n_draws=2, seed=3) for _ in range(2))

    assert first == second
    assert 0 < first.score < 1


def test_honest_estimate_draws_rows_when_people_are_not_known(make_pool: Make) -> None:
    probs, labels = make_pool(samples=60)

    estimate = honest_estimate(probs, labels, [None] * 60, select=select_best, n_draws=5)

    assert (estimate.interval.unit, estimate.interval.n_units) == ("row", 60)


def test_honest_estimate_survives_a_class_with_one_face(make_pool: Make) -> None:
    probs, labels = make_pool(samples=60, classes=3)
    labels = np.where(labels == 2, 0, labels)
    labels[0] = 2

    estimate = honest_estimate(probs, labels, select=select_best, n_draws=5)

    assert 0 < estimate.score < 1


def test_honest_estimate_tells_how_far_it_is(make_pool: Make) -> None:
    probs, labels = make_pool(samples=60)
    told: list[int] = []

    honest_estimate(probs, labels, select=select_best, n_draws=3, progress=told.append)

    assert told == [1, 2, 3]


def test_honest_estimate_refuses_a_single_face() -> None:
    with pytest.raises(EnsembleError, match="an estimate needs 2 labelled samples or more, got 1"):
        honest_estimate(np.full((1, 1, 2), 0.5), [0], select=select_best)
