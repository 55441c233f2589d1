"""What to expect of a choice on new people: cross-fitted, corrected for choosing among ways to choose, with intervals.

Sources: Varma & Simon 2006 (choosing inside the cross-validation); Tsamardinos et al., Machine Learning 107, 2018
(bootstrap bias correction, BBC-CV), here with people drawn instead of rows.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from search.ensemble.blending import soft_vote
from search.ensemble.bootstrap import Draws, Interval, check_draws, combine_draws, draw_scores, percentiles
from search.ensemble.crossfit import CrossFit
from search.ensemble.faces import combine
from search.ensemble.macro_f1 import (
    FloatArray,
    IntArray,
    Scores,
    check_scores,
    macro_f1_of_confusions,
    macro_f1_of_probs,
)
from search.ensemble.model_library import Library, units_of
from spaces.errors import EnsembleError

Selector = Callable[[Scores, IntArray, IntArray], FloatArray]
"""Weights [candidates] from scores [candidates, samples, classes], labels and counts [samples]."""

LEVEL = 0.9
"""Of the intervals of estimates."""
N_DRAWS = 1000

_TRIES = 20


@dataclass(frozen=True)
class Estimate:
    """What to expect of a choice, on faces that had no part in choosing.

    Attributes:
        score: the honest macro-F1.
        interval: where the macro-F1 on as many other people of the same kind should lie.
        chosen_on: macro-F1 on the very faces it was chosen by; never the score to expect.
    """

    score: float
    interval: Interval
    chosen_on: float

    @property
    def optimism(self) -> float:
        """By how much the score it was chosen by is too good."""
        return self.chosen_on - self.score


@dataclass(frozen=True)
class Difference:
    """By how much one choice is better than another on the same people, and the interval of that."""

    score: float
    low: float
    high: float


@dataclass(frozen=True, eq=False)
class Judgement:
    """Cross-fitted scores of several ways to choose, and the one to take among some of them.

    Attributes:
        cross: what the ways said.
        chosen: of the ways that were to choose among.
        scores: cross-fitted macro-F1 on each kind of faces, [kinds, ways].
        losses: on each bootstrap draw of the people, by how much the chosen way is better, on those left out, than the
            way that the draw would have chosen, [draws].
        draws: for each kind, scores on bootstrap draws of the people.
        elsewhere: an order of the draws, [draws]; the luck of a draw stands for that of people elsewhere.
        chosen_on: macro-F1 of what the ways chose, on the very faces they chose by, [kinds, ways]; infinite where it is
            not known.
    """

    cross: CrossFit
    chosen: str
    scores: FloatArray
    losses: FloatArray
    draws: tuple[Draws, ...]
    elsewhere: IntArray
    chosen_on: FloatArray

    @property
    def lost(self) -> float:
        """By how much the chosen way's score is too good for having been chosen."""
        return max(0.0, float(self.losses.mean()))

    def score(self, name: str, *, kind: int = 0) -> float:
        """The macro-F1 to expect of a way; that of the chosen one stands for choosing it, too.

        Never above the score on the faces it chose by, which flatters if anything. The cross-fitted one may lie above:
        it is of answers that several choices gave, and the F1 of a class is not linear in them.
        """
        place = self.cross.place(name)
        cross_fitted = float(self.scores[kind, place]) - (self.lost if name == self.chosen else 0.0)
        return min(cross_fitted, float(self.chosen_on[kind, place]))

    def estimate(self, name: str, library: Library, weights: FloatArray, *, kind: int = 0) -> Estimate:
        """What to expect of a way on faces of a kind.

        Args:
            name: of the way.
            library: all faces.
            weights: [candidates], what it chose on all of them.
            kind: of the library's.
        """
        score, faces = self.score(name, kind=kind), library.kinds[kind]
        low, high = percentiles(score + self._errors(name, kind=kind), LEVEL)
        interval = Interval(max(low, 0.0), min(high, 1.0), faces.unit, faces.n_units)
        return Estimate(score, interval, faces.faces.macro_f1_of_vote(weights))

    def _errors(self, name: str, *, kind: int) -> FloatArray:
        """How a score on people elsewhere may differ: by their luck, that of the people here, and that of choosing.

        Returns:
            [draws].
        """
        spread = self.draws[kind].spread(self.cross.place(name))
        errors = spread + spread[self.elsewhere]
        return errors - (self.losses - self.losses.mean()) if name == self.chosen else errors

    def interval(self, name: str, *, kind: int = 0) -> tuple[float, float]:
        """Where a way's score on all people of this kind should lie."""
        return percentiles(self.score(name, kind=kind) + self.draws[kind].spread(self.cross.place(name)), LEVEL)

    def difference(self, name: str, other: str, *, kind: int = 0) -> Difference:
        """By how much a way is better than another, on the same people."""
        first, second = self.cross.place(name), self.cross.place(other)
        gain = self.score(name, kind=kind) - self.score(other, kind=kind)
        low, high = percentiles(gain + self.draws[kind].spread(first) - self.draws[kind].spread(second), LEVEL)
        return Difference(gain, low, high)


def judge(
    cross: CrossFit,
    library: Library,
    *,
    among: Sequence[str],
    weights: Mapping[str, FloatArray] | None = None,
    seed: int = 0,
) -> Judgement:
    """Take the simplest of some ways that is within one standard error of the best.

    The standard error is that of the difference between the two on the same people. Choosing so is a choice as well: on
    draws of the people it is made again, and what it loses on those left out is taken off the estimate.

    Args:
        cross: of all ways.
        library: all faces.
        among: names to choose among, the simplest first.
        weights: [candidates], what ways chose on all faces, by name; no score to expect is above theirs there.
        seed: of the draws.
    """
    generator = np.random.default_rng([seed, 0xD4A5])
    scores = np.stack([macro_f1_of_confusions(of_kind.sum(axis=1)) for of_kind in cross.confusions])
    draws = tuple(draw_scores(of_kind, n_draws=N_DRAWS, generator=generator) for of_kind in cross.confusions)
    combined = combine_draws(draws, library.objective)
    places = np.array([cross.place(name) for name in among])
    errors = combined.standard_errors()[np.ix_(places, places)]
    chosen = int(_simplest_of_the_best(combine(list(scores), library.objective)[None, places], errors)[0])
    on_draws = _simplest_of_the_best(combined.inside[:, places], errors)
    outside = combined.outside[:, places]
    losses = outside[:, chosen] - outside[np.arange(len(outside)), on_draws]
    elsewhere = generator.permutation(len(losses))
    return Judgement(cross, among[chosen], scores, losses, draws, elsewhere, _chosen_on(cross, library, weights or {}))


def _chosen_on(cross: CrossFit, library: Library, weights: Mapping[str, FloatArray]) -> FloatArray:
    """[kinds, ways]: macro-F1 of votes on the faces they were chosen by; infinite for ways without one."""
    return np.array(
        [
            [kind.faces.macro_f1_of_vote(weights[name]) if name in weights else np.inf for name in cross.names]
            for kind in library.kinds
        ]
    )


def _simplest_of_the_best(scores: FloatArray, errors: FloatArray) -> npt.NDArray[np.intp]:
    """For each row of scores the first place within a standard error of the best; [rows, ways] to [rows]."""
    best = scores.argmax(axis=1)
    near = scores.max(axis=1)[:, None] - scores <= errors[best]
    return np.asarray(near.argmax(axis=1), dtype=np.intp)


def honest_estimate(
    probs: npt.ArrayLike,
    labels: npt.ArrayLike,
    subjects: Sequence[str | None] | None = None,
    *,
    select: Selector,
    n_draws: int = 100,
    level: float = 0.95,
    seed: int = 0,
    progress: Callable[[int], None] | None = None,
) -> Estimate:
    """Bootstrap-bias-corrected macro-F1 of a whole way of choosing, without training anything again.

    A draw that leaves a class out of either side, though the faces have it, is drawn again a few times.

    Args:
        probs: [candidates, samples, classes]; rows over classes sum to 1.
        labels: [samples], class indices; -1 is left out.
        subjects: [samples], the person or None; a face without a person is a unit by itself.
        select: the way of choosing; everything that looks at labels belongs into it.
        n_draws: bootstrap draws.
        level: of the interval.
        seed: of the draws.
        progress: told the number of draws done.

    Raises:
        EnsembleError: shapes disagree, or there are fewer than two labelled samples.

    Source: Tsamardinos et al., Machine Learning 107, 2018 (BBC-CV), with subjects drawn instead of rows.
    """
    check_draws(n_draws, level)
    labelled = np.asarray(labels) >= 0
    scores, truth = check_scores(probs, labels)
    units, unit = units_of(subjects, labelled)
    n_units = int(units.max()) + 1
    if n_units < 2:
        raise EnsembleError(f"an estimate needs 2 labelled samples or more, got {n_units}")
    generator = np.random.default_rng(seed)
    outside = np.empty(n_draws)
    for draw in range(n_draws):
        counts = _draw_counts(units, truth, n_units=n_units, generator=generator)
        drawn, left_out = counts > 0, counts == 0
        weights = select(scores[:, drawn], truth[drawn], counts[drawn])
        vote = soft_vote(scores[:, left_out], weights)
        outside[draw] = macro_f1_of_probs(vote[None], truth[left_out])[0]
        if progress:
            progress(draw + 1)
    weights = select(scores, truth, np.ones(len(truth), dtype=np.int64))
    chosen_on = macro_f1_of_probs(soft_vote(scores, weights)[None], truth)[0]
    low, high = percentiles(outside, level)
    return Estimate(float(outside.mean()), Interval(low, high, unit, n_units), float(chosen_on))


def _draw_counts(
    units: IntArray, labels: IntArray, *, n_units: int, generator: np.random.Generator
) -> npt.NDArray[np.int64]:
    """How often each row was drawn, by whole units; both sides hold every class if a few tries find such a draw."""
    n_classes = len(np.unique(labels))
    best, most = None, -1
    for _ in range(_TRIES):
        counts = np.bincount(generator.integers(n_units, size=n_units), minlength=n_units)[units]
        inside, outside = np.unique(labels[counts > 0]), np.unique(labels[counts == 0])
        n_seen = len(inside) + len(outside) if len(outside) else 0
        if n_seen > most:
            best, most = counts, n_seen
        if n_seen == 2 * n_classes:
            break
    if best is None or not (best == 0).any():
        best = (units != generator.integers(n_units)).astype(np.int64)
    return np.asarray(best, dtype=np.int64)
