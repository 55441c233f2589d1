"""The hand rule, its exact tuning beside trying everything, and its honest estimate."""

from itertools import combinations

import numpy as np
import pytest
from sklearn.metrics import f1_score

from spaces.errors import ConfigError, DataError
from trainables.hand_tuning import NEVER, HandRule, best_hand_rule, best_hand_threshold, cross_fitted_hand_rule
from trainables.metrics import macro_f1

FEAR, HAPPINESS = 2, 3

Faces = tuple[np.ndarray, np.ndarray, np.ndarray]


def drawn(seed: int, n: int = 60, *, n_classes: int = 4, decimals: int = 2) -> Faces:
    """Labels of which some are not known, preds that are often right, and hands that lean towards fear."""
    generator = np.random.default_rng(seed)
    truth = generator.integers(0, n_classes, n)
    preds = np.where(generator.random(n) < 0.5, truth, generator.integers(0, n_classes, n))
    hands = np.clip(0.4 * (truth == FEAR) + generator.uniform(0, 0.6, n), 0, 1).round(decimals)
    return np.where(generator.random(n) < 0.2, -1, truth).astype(np.int8), preds, hands


def score_of(rule: HandRule, faces: Faces, n_classes: int) -> float:
    labels, preds, hands = faces
    known, after = labels >= 0, rule.preds(preds, hands)
    wanted = {"labels": range(n_classes), "average": "macro", "zero_division": 0}
    return float(f1_score(labels[known], after[known], **wanted))


def thresholds_of(hands: np.ndarray) -> list[float]:
    edges = np.unique(np.concatenate([[0.0], hands, [1.0]]))
    return [0.0, *((edges[1:] + edges[:-1]) / 2).tolist(), NEVER]


def score_of_trying_all(faces: Faces, n_classes: int, sets: list[tuple[int, ...]]) -> float:
    rules = [HandRule(FEAR, threshold, chosen) for threshold in thresholds_of(faces[2]) for chosen in sets]
    labels, preds, hands = faces
    return max(macro_f1(labels, rule.preds(preds, hands), n_classes) for rule in rules)


def test_hand_rule_calls_a_face_with_a_hand_fear_unless_it_is_happy() -> None:
    rule = HandRule(target=FEAR, threshold=0.5, exceptions=(HAPPINESS,))
    preds, hands = np.array([0, 0, HAPPINESS, 1, FEAR]), np.array([0.5, 0.49, 1.0, 0.9, 0.1])

    after = rule.preds(preds, hands)

    assert after.tolist() == [FEAR, 0, HAPPINESS, FEAR, FEAR]
    assert rule.preds(np.eye(4)[preds], hands).tolist() == after.tolist()


def test_hand_rule_changes_nothing_at_never() -> None:
    preds = np.array([0, 1, 3])

    assert HandRule(FEAR, NEVER).preds(preds, np.ones(3)).tolist() == [0, 1, 3]


@pytest.mark.parametrize("exceptions", [(), (3,), (0, 3)], ids=["none", "one", "two"])
@pytest.mark.parametrize("decimals", [1, 9], ids=["ties", "no_ties"])
def test_best_hand_threshold_equals_trying_all_midpoints(decimals: int, exceptions: tuple[int, ...]) -> None:
    for seed in range(4):
        faces = drawn(seed, decimals=decimals)

        rule, score = best_hand_threshold(*faces, n_classes=4, target=FEAR, exceptions=exceptions)

        assert (rule.target, rule.exceptions) == (FEAR, exceptions)
        assert score == pytest.approx(score_of_trying_all(faces, 4, [exceptions]), abs=1e-12)
        assert score_of(rule, faces, 4) == pytest.approx(score, abs=1e-12)


def test_best_hand_threshold_takes_the_middle_of_the_widest_plateau() -> None:
    # A hand at 0.8 belongs to fear, one at 0.2 does not; the face at 0.5 is happy, which is an exception.
    labels, preds, hands = np.array([2, 0, 3]), np.array([0, 0, 3]), np.array([0.8, 0.2, 0.5])

    rule, score = best_hand_threshold(labels, preds, hands, n_classes=4, target=FEAR, exceptions=[HAPPINESS])

    assert rule == HandRule(FEAR, pytest.approx(0.5), (HAPPINESS,))
    assert score == pytest.approx(3 / 4)


def test_best_hand_threshold_counts_only_labelled_faces() -> None:
    labels, preds, hands = np.array([2, 0, -1]), np.array([0, 0, 0]), np.array([0.8, 0.2, 0.5])

    rule, _ = best_hand_threshold(labels, preds, hands, n_classes=4, target=FEAR)

    assert rule.threshold == pytest.approx(0.5)


def test_best_hand_threshold_is_never_when_hands_belong_to_other_faces() -> None:
    labels, hands = np.array([0, 1, 2, 3]), np.array([1.0, 0.7, 0.0, 0.9])

    rule, score = best_hand_threshold(labels, labels, hands, n_classes=4, target=FEAR)

    assert rule == HandRule(FEAR, NEVER)
    assert score == 1.0


def test_best_hand_threshold_is_never_when_no_face_can_change() -> None:
    labels, preds = np.array([2, 3, 0]), np.array([2, 3, 3])

    rule, score = best_hand_threshold(labels, preds, np.ones(3), n_classes=4, target=FEAR, exceptions=[HAPPINESS])

    assert rule.threshold == NEVER
    assert score == pytest.approx(macro_f1(labels, preds, 4))


def test_best_hand_threshold_parts_float32_hands_that_are_neighbours() -> None:
    high = np.float32(1)
    hands = np.array([high, np.nextafter(high, np.float32(0))], np.float32)
    labels, preds = np.array([2, 0]), np.array([0, 0])

    rule, _ = best_hand_threshold(labels, preds, hands, n_classes=4, target=FEAR)

    assert rule.preds(preds, hands).tolist() == [2, 0]


@pytest.mark.parametrize("n_classes", [3, 5], ids=["three", "five"])
def test_best_hand_rule_equals_trying_all_exceptions_and_midpoints(n_classes: int) -> None:
    others = [index for index in range(n_classes) if index != FEAR]
    sets = [chosen for size in range(n_classes) for chosen in combinations(others, size)]
    for seed in range(3):
        faces = drawn(seed, n=40, n_classes=n_classes)

        rule, score = best_hand_rule(*faces, n_classes=n_classes, target=FEAR)

        assert score == pytest.approx(score_of_trying_all(faces, n_classes, sets), abs=1e-12)
        assert score_of(rule, faces, n_classes) == pytest.approx(score, abs=1e-12)


def test_best_hand_rule_finds_the_exception_that_laughing_behind_a_hand_is_happy() -> None:
    labels = np.array([2, 2, 3, 3, 0, 1])
    preds = np.array([0, 1, 3, 3, 0, 1])
    hands = np.array([0.9, 0.8, 0.9, 0.8, 0.1, 0.2])

    rule, score = best_hand_rule(labels, preds, hands, n_classes=6, target=FEAR)

    assert rule == HandRule(FEAR, pytest.approx(0.5), (HAPPINESS,))
    assert score == pytest.approx(4 / 6)


def test_best_hand_rule_has_no_exception_that_gains_nothing() -> None:
    labels, preds, hands = np.array([2, 0, 3]), np.array([0, 0, 3]), np.array([0.8, 0.2, 0.1])

    rule, _ = best_hand_rule(labels, preds, hands, n_classes=6, target=FEAR)

    assert rule == HandRule(FEAR, pytest.approx(0.5))


def cross_fitted_by_hand(faces: Faces, subjects: list[str], folds: list[set[str]], n_classes: int) -> float:
    labels, preds, hands = faces
    after = preds.copy()
    for fold in folds:
        held_out = np.array([subject in fold for subject in subjects])
        rest = labels[~held_out], preds[~held_out], hands[~held_out]
        rule, _ = best_hand_rule(*rest, n_classes=n_classes, target=FEAR)
        after[held_out] = rule.preds(preds[held_out], hands[held_out])
    return macro_f1(labels, after, n_classes)


def test_cross_fitting_tunes_on_other_people_when_each_is_a_fold() -> None:
    faces = drawn(5, n=80)
    subjects = [f"person {row % 4}" for row in range(80)]

    found = cross_fitted_hand_rule(*faces, subjects, n_classes=4, target=FEAR, exceptions=None, n_folds=4)

    folds = [{f"person {number}"} for number in range(4)]
    assert found == pytest.approx(cross_fitted_by_hand(faces, subjects, folds, 4), abs=1e-12)


def test_cross_fitting_promises_no_more_than_chance_when_hands_are_noise() -> None:
    generator = np.random.default_rng(0)
    naive, honest = [], []
    for _ in range(10):
        labels, preds = generator.integers(0, 6, 60), generator.integers(0, 6, 60)
        hands, subjects = generator.random(60), [None] * 60
        before = macro_f1(labels, preds, 6)
        naive.append(best_hand_rule(labels, preds, hands, n_classes=6, target=FEAR)[1] - before)
        after = cross_fitted_hand_rule(labels, preds, hands, subjects, n_classes=6, target=FEAR, exceptions=None)
        honest.append(after - before)

    assert np.mean(naive) > 0.02
    assert np.mean(honest) < 0.01


def test_cross_fitting_never_cuts_through_a_person() -> None:
    # Each person's hands mean fear or nothing, but only a rule tuned on this very person could know.
    labels = np.repeat([2, 0], 10)
    preds, hands = np.zeros(20, np.int64), np.repeat([0.9, 0.1], 10)
    subjects = ["covers up"] * 10 + ["does not"] * 10

    found = cross_fitted_hand_rule(labels, preds, hands, subjects, n_classes=4, target=FEAR, exceptions=[])

    _, naive = best_hand_threshold(labels, preds, hands, n_classes=4, target=FEAR)
    assert naive == pytest.approx(2 / 4)
    # Without "covers up" no hand gains anything; without "does not" a hand from 0.45 on is fear, which 0.1 is not.
    assert found == pytest.approx(macro_f1(labels, preds, 4))


def test_cross_fitting_takes_a_face_without_a_person_for_one_by_itself_and_repeats_with_its_seed() -> None:
    faces = drawn(6, n=50)
    subjects = [None if row % 2 else f"person {row % 5}" for row in range(50)]

    same = {
        cross_fitted_hand_rule(*faces, subjects, n_classes=4, target=FEAR, exceptions=(HAPPINESS,), seed=1)
        for _ in range(2)
    }

    assert len(same) == 1
    assert 0 < same.pop() < 1


def test_cross_fitting_leaves_unlabelled_faces_out() -> None:
    labels, preds, hands = drawn(7, n=40)
    subjects = [f"person {row % 8}" for row in range(40)]
    known = labels >= 0
    kept = [subject for subject, is_known in zip(subjects, known, strict=True) if is_known]

    everybody = cross_fitted_hand_rule(labels, preds, hands, subjects, n_classes=4, target=FEAR, exceptions=None)
    labelled = cross_fitted_hand_rule(
        labels[known], preds[known], hands[known], kept, n_classes=4, target=FEAR, exceptions=None
    )

    assert everybody == labelled


def test_hand_tuning_says_what_it_can_not_work_with() -> None:
    labels, preds, hands = np.array([0, 1]), np.array([0, 1]), np.array([0.1, 0.9])

    with pytest.raises(ConfigError, match="at most 10 classes, got 11; give the exceptions and tune the threshold"):
        best_hand_rule(labels, preds, hands, n_classes=11, target=FEAR)
    with pytest.raises(ConfigError, match="must be class indices from 0 to 3, got 4"):
        best_hand_threshold(labels, preds, hands, n_classes=4, target=FEAR, exceptions=[4])
    with pytest.raises(DataError, match=r"hand_probs must be probabilities between 0 and 1, got -0\.5"):
        best_hand_threshold(labels, preds, np.array([0.1, -0.5]), n_classes=4, target=FEAR)
    with pytest.raises(DataError, match=r"must have one shape, got \[2\], \[2\] and \[1\]"):
        best_hand_threshold(labels, preds, hands[:1], n_classes=4, target=FEAR)
    with pytest.raises(DataError, match="labels must name a class for some face, got 2 faces and none of them"):
        best_hand_rule(np.array([-1, -1]), preds, hands, n_classes=4, target=FEAR)


def test_cross_fitting_says_what_it_can_not_work_with() -> None:
    faces = np.array([0, 1]), np.array([0, 1]), np.array([0.1, 0.9])

    with pytest.raises(DataError, match="needs 2 labelled subjects or more, got 1"):
        cross_fitted_hand_rule(*faces, ["a", "a"], n_classes=4, target=FEAR, exceptions=None)
    with pytest.raises(DataError, match=r"subjects must be one a sample \(2\), got 1"):
        cross_fitted_hand_rule(*faces, ["a"], n_classes=4, target=FEAR, exceptions=None)
    with pytest.raises(ConfigError, match="n_folds must be 2 or more, got 1"):
        cross_fitted_hand_rule(*faces, ["a", "b"], n_classes=4, target=FEAR, exceptions=None, n_folds=1)
