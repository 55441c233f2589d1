"""How much of the scores' spread each parameter explains alone, and how much chance would explain.

The share is the correlation ratio of an analysis of variance in one direction (Fisher, Statistical Methods for Research
Workers, 1925): between-group over total sum of squares, where the groups are the values of a choice, or fifths of a
number's range of values that were tried. Few trials in many groups explain much by chance; what they explain once the
scores have been shuffled says how much.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from search.folder import TrialRecord
from spaces.domains import Choice, label_of
from spaces.parameters import Parameter
from spaces.space import SearchSpace

N_GROUPS = 5
N_SHUFFLES = 400
FEWEST_TRIALS = 8
"""With fewer, chance explains nearly all."""
CHANCE = 0.95
"""Of the shuffles that explain no more than `by_chance`."""


@dataclass(frozen=True)
class Importance:
    """Of one parameter.

    Attributes:
        name: of the parameter.
        share: of the spread of macro-F1 that its values explain, 0..1.
        by_chance: what 19 of 20 shuffles of the scores explain at most.
        n_trials: that had a value for it.
    """

    name: str
    share: float
    by_chance: float
    n_trials: int

    @property
    def stands_out(self) -> bool:
        """Whether it explains more than chance would."""
        return self.share > self.by_chance


def measure_importance(space: SearchSpace, records: Sequence[TrialRecord], *, seed: int = 0) -> list[Importance]:
    """What each parameter explains, largest excess over chance first; those that never varied are left out.

    Args:
        space: of the trials.
        records: scored trials; of a stopped one its score so far counts.
        seed: of the shuffles.
    """
    generator = np.random.default_rng(seed)
    found = []
    for parameter in space.parameters:
        own = [record for record in records if parameter.name in record.values]
        groups = _groups(parameter, [record.values[parameter.name] for record in own])
        if len(own) < FEWEST_TRIALS or len(np.unique(groups)) < 2:
            continue
        scores = np.array([record.best_macro_f1 for record in own], dtype=np.float64)
        if np.ptp(scores) == 0.0:
            continue
        shuffled = [_explained(generator.permutation(scores), groups) for _ in range(N_SHUFFLES)]
        by_chance = float(np.quantile(shuffled, CHANCE))
        found.append(Importance(parameter.name, _explained(scores, groups), by_chance, len(own)))
    return sorted(found, key=lambda each: (each.by_chance - each.share, each.name))


def _groups(parameter: Parameter, values: Sequence[Any]) -> NDArray[np.intp]:
    """A group's number for each trial; as many trials in each fifth of a range as its ties allow."""
    if isinstance(parameter.domain, Choice):
        labels = [label_of(tuple(value) if isinstance(value, list) else value) for value in values]
        return np.unique(labels, return_inverse=True)[1]
    numbers = np.asarray(values, dtype=np.float64)
    distinct = np.unique(numbers)
    if len(distinct) <= N_GROUPS:
        return np.searchsorted(distinct, numbers)
    edges = np.quantile(numbers, np.linspace(0.0, 1.0, N_GROUPS + 1)[1:-1])
    return np.searchsorted(np.unique(edges), numbers, side="right")


def _explained(scores: NDArray[np.float64], groups: NDArray[np.intp]) -> float:
    """Between-group over total sum of squares."""
    counts = np.bincount(groups)
    sums = np.bincount(groups, weights=scores)
    means = sums[counts > 0] / counts[counts > 0]
    between = float((counts[counts > 0] * (means - scores.mean()) ** 2).sum())
    return between / float(((scores - scores.mean()) ** 2).sum())
