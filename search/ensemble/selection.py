"""Ways to choose who votes, and with how much weight, behind one interface.

`METHODS` has them by how much they fit to the faces they choose by, least first: where two are as good as each other on
faces that had no part in choosing, the one that fits less is the better bet.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from search.ensemble.blending import best_blend_weight, soft_vote
from search.ensemble.evolution import evolve_weights
from search.ensemble.greedy import TIE, greedy
from search.ensemble.macro_f1 import FloatArray
from search.ensemble.model_library import Library
from spaces.errors import EnsembleError

Choose = Callable[[Library, int], FloatArray]
"""Weights [candidates] from a library and a seed; non-negative, summing to 1."""

N_BAGS = 10
DRAWN_SHARE = 0.5
"""Of the candidates, in a bag."""
FEWEST_DRAWN = 4
"""Candidates in a bag at least; of no more than these every bag has all."""
BAG_ROUNDS = 15
ROUNDS = 25
"""Of plain greedy selection; no gain above was measured (AutoGluon's TabRepo)."""

LEAST_SHARE = 0.75
"""A candidate below this share of the best one's macro-F1 has no vote. A network that knows next to nothing can lift
the score on the faces it is chosen by all the same, as its vote shifts every face between the classes: a setting of
thresholds in disguise, with more freedom than a few rare faces can settle."""


@dataclass(frozen=True)
class Method:
    """One way to choose.

    Attributes:
        words: for a person.
        choose: does it.
    """

    words: str
    choose: Choose


def choose_uniform(library: Library, seed: int) -> FloatArray:
    """The plain average of all that were trained to their end and are not weak; nothing is fitted."""
    return _shares(_averaged(library), [""] * library.n_candidates)


def choose_by_backbone(library: Library, seed: int) -> FloatArray:
    """The average of the averages of each backbone."""
    return _shares(_averaged(library), library.traits.backbones)


def choose_by_strength(library: Library, seed: int) -> FloatArray:
    """The average of two averages: of those trained on small subsamples and of those trained on most faces.

    Source: Jeong et al. 2022 (3rd ABAW): "weak" and "strong" models.
    """
    return _shares(_averaged(library), ["strong" if strong else "weak" for strong in library.traits.is_strong])


def choose_single(library: Library, seed: int) -> FloatArray:
    """The best candidate alone; ties go to the lower log-loss, then to the first."""
    return greedy(library.faces, rounds=1, objective=library.objective).weights


def choose_bagged(library: Library, seed: int) -> FloatArray:
    """The mean weights of greedy selections from random halves of the candidates that are not weak.

    Of few candidates every half has all; then people are drawn. A half that does not reach the best single candidate
    has no say, so that weak candidates can't get in by being drawn together.

    Source: Caruana et al., ICML 2004, section 2.3; leaving the weak out: Caruana et al., ICDM 2006 (by rank there).
    """
    worthy = _worthy(library)
    among = library.only(worthy)
    if among.n_candidates <= FEWEST_DRAWN:
        return _scattered(_mean_of_redrawn(among, seed), worthy, library)
    generator = np.random.default_rng([seed, 0xBA65])
    n_drawn = max(FEWEST_DRAWN, round(DRAWN_SHARE * among.n_candidates))
    single = float(among.alone().max())
    kept = []
    for _ in range(N_BAGS):
        drawn = np.sort(generator.permutation(among.n_candidates)[:n_drawn])
        found = greedy(among.only(drawn).faces, rounds=BAG_ROUNDS, objective=library.objective)
        if found.score >= single - TIE:
            kept.append(_scattered(found.weights, drawn, among))
    if not kept:
        return choose_greedy(library, seed)
    return _scattered(np.mean(kept, axis=0), worthy, library)


def choose_on_people(library: Library, seed: int) -> FloatArray:
    """The mean weights of greedy selections on bootstrap draws of the people, from candidates that are not weak."""
    worthy = _worthy(library)
    return _scattered(_mean_of_redrawn(library.only(worthy), seed), worthy, library)


def choose_blend(library: Library, seed: int) -> FloatArray:
    """Bagged selection drawn back towards the plain average, as far as the exact curve on the first kind says."""
    selected, average = choose_bagged(library, seed), choose_uniform(library, seed)
    weight = blend_towards(library, average, selected)
    return weight * average + (1 - weight) * selected


def blend_towards(library: Library, average: FloatArray, selected: FloatArray) -> float:
    """The exact blending weight of an average against a selection on the first kind of faces."""
    faces = library.kinds[0].faces
    votes = soft_vote(faces.probs, average), soft_vote(faces.probs, selected)
    return best_blend_weight(*votes, faces.labels, counts=faces.counts)


def choose_greedy(library: Library, seed: int) -> FloatArray:
    """Greedy selection with replacement from candidates that are not weak, cut at the first best point of its way.

    Source: Caruana et al., ICML 2004.
    """
    worthy = _worthy(library)
    found = greedy(library.only(worthy).faces, rounds=ROUNDS, objective=library.objective)
    return _scattered(found.weights, worthy, library)


def choose_evolved(library: Library, seed: int) -> FloatArray:
    """Weights on the simplex by CMA-ES, from the plain average on, of candidates that are not weak."""
    worthy = _worthy(library)
    return _scattered(evolve_weights(library.only(worthy), seed=seed), worthy, library)


METHODS: dict[str, Method] = {
    "uniform": Method("plain average", choose_uniform),
    "by_backbone": Method("average by backbone", choose_by_backbone),
    "by_strength": Method("average of weak and strong", choose_by_strength),
    "best_single": Method("best single", choose_single),
    "bagged": Method("greedy, bagged over candidates", choose_bagged),
    "bagged_people": Method("greedy, bagged over people", choose_on_people),
    "blended": Method("bagged, blended with average", choose_blend),
    "greedy": Method("greedy", choose_greedy),
    "evolved": Method("CMA-ES on the simplex", choose_evolved),
}
"""By how much is fitted to the faces, least first."""


def choose_members(method: Choose, library: Library, *, max_members: int, seed: int) -> FloatArray:
    """A method's weights, with no more members than allowed.

    Of too many, the heaviest are kept, of equally heavy ones those that are better alone, the best single one among
    them in any case; then the method chooses among these.

    Args:
        method: one of `METHODS`, or another.
        library: to choose from.
        max_members: most candidates with a weight.
        seed: of whatever is drawn.

    Returns:
        [candidates], non-negative, summing to 1.

    Raises:
        EnsembleError: max_members is below 1.
    """
    if max_members < 1:
        raise EnsembleError(f"max_members must be 1 or more, got {max_members}")
    weights = method(library, seed)
    if np.count_nonzero(weights) <= max_members:
        return weights
    alone = library.alone()
    order = np.lexsort((np.arange(len(weights)), -alone, -weights))
    best = int(alone.argmax())
    kept = np.sort([best, *order[order != best][: max_members - 1]])
    return _scattered(method(library.only(kept), seed), kept, library)


def limited(choose: Choose, max_members: int) -> Choose:
    """A way to choose that keeps to so many members; see `choose_members`."""
    return lambda library, seed: choose_members(choose, library, max_members=max_members, seed=seed)


def _worthy(library: Library) -> npt.NDArray[np.intp]:
    """Candidates whose own score is near enough to the best one's."""
    alone = library.alone()
    return np.flatnonzero(alone >= LEAST_SHARE * alone.max())


def _averaged(library: Library) -> npt.NDArray[np.intp]:
    """Candidates for a plain average; of those that are not weak all, where none was trained to its end."""
    worthy = _worthy(library)
    complete = worthy[library.traits.is_complete[worthy]]
    return complete if len(complete) else worthy


def _shares(candidates: npt.NDArray[np.intp], groups: "list[str] | tuple[str, ...]") -> FloatArray:
    """Equal weight for each group that has one of the candidates, and in it for each of those."""
    own = np.array([groups[i] for i in candidates.tolist()])
    names, places, sizes = np.unique(own, return_inverse=True, return_counts=True)
    weights = np.zeros(len(groups))
    weights[candidates] = 1.0 / (len(names) * sizes[places])
    return weights


def _mean_of_redrawn(library: Library, seed: int) -> FloatArray:
    generator = np.random.default_rng([seed, 0x9E09])
    pooled = library.pooled()
    draws = (pooled.redrawn(generator).faces for _ in range(N_BAGS))
    chosen = [greedy(faces, rounds=BAG_ROUNDS, objective=library.objective).weights for faces in draws]
    return np.asarray(np.mean(chosen, axis=0), dtype=np.float64)


def _scattered(weights: FloatArray, candidates: npt.NDArray[np.intp], library: Library) -> FloatArray:
    """Weights of some candidates among all."""
    scattered = np.zeros(library.n_candidates)
    scattered[candidates] = weights
    return scattered
