"""Cross-fitting: every way to choose is repeated without some of the people, and answers for those.

The whole of the choice is repeated: which epoch of a trial, which configs get bags, who votes, with what weight.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from threadpoolctl import threadpool_limits

from search.ensemble.blending import soft_vote
from search.ensemble.macro_f1 import FloatArray, IntArray
from search.ensemble.model_library import Kind, Library
from search.ensemble.selection import Choose
from spaces.errors import EnsembleError

N_FOLDS = 5
N_REPEATS = 3
"""Divisions into folds; one division alone moves the scores by its luck."""


@dataclass(frozen=True, eq=False)
class CrossFit:
    """What ways to choose said of faces that had no part in choosing.

    Attributes:
        names: of the ways.
        confusions: for each kind of faces, [ways, units, classes (truth), classes]: how each unit's faces were
            answered, the mean over the divisions into folds.
        probs: for each kind, [ways, samples, classes], in the first division.
        n_folds: parts that the units were divided into.
    """

    names: tuple[str, ...]
    confusions: tuple[FloatArray, ...]
    probs: tuple[FloatArray, ...]
    n_folds: int

    def place(self, name: str) -> int:
        """The index of a way."""
        return self.names.index(name)


def cross_fit(
    library: Library,
    ways: Mapping[str, Choose],
    *,
    n_folds: int = N_FOLDS,
    n_repeats: int = N_REPEATS,
    seed: int = 0,
    progress: Callable[[float], None] | None = None,
) -> CrossFit:
    """Let each way choose on all folds but one and answer for that one, for each fold.

    Args:
        library: all candidates and faces.
        ways: to choose, by name.
        n_folds: fewer where there are fewer units.
        n_repeats: divisions into folds.
        seed: of the divisions, and of what the ways draw.
        progress: told the share done.

    Raises:
        EnsembleError: some kind of faces has fewer than two units.
    """
    fewest = min(kind.n_units for kind in library.kinds)
    if fewest < 2:
        raise EnsembleError(f"an estimate needs 2 people or faces or more, got {fewest}")
    n_folds = min(n_folds, fewest)
    answers = [_Answers(kind, n_ways=len(ways), n_repeats=n_repeats) for kind in library.kinds]
    with threadpool_limits(1, user_api="blas"):  # on matrices of this size threads wait for each other
        for repeat in range(n_repeats):
            folds = [
                assign_folds(kind.units, kind.faces.labels, n_folds=n_folds, seed=seed + repeat)
                for kind in library.kinds
            ]
            for fold in range(n_folds):
                inside = [of_kind != fold for of_kind in folds]
                _answer_outside(library, ways, inside, answers, seed=seed, is_first=repeat == 0)
                if progress:
                    progress((repeat * n_folds + fold + 1) / (n_repeats * n_folds))
    confusions, probs = [of_kind.confusions for of_kind in answers], [of_kind.probs for of_kind in answers]
    return CrossFit(tuple(ways), tuple(confusions), tuple(probs), n_folds)


def fixed_answers(kind: Kind, rows: Mapping[str, FloatArray]) -> CrossFit:
    """Answers of votes that these faces had no part in choosing; nothing is left out for them.

    Args:
        kind: the faces.
        rows: weights [candidates] by name.
    """
    answers = _Answers(kind, n_ways=len(rows), n_repeats=1)
    everywhere = np.ones(len(kind.units), dtype=bool)
    for place, weights in enumerate(rows.values()):
        answers.add(place, everywhere, soft_vote(kind.faces.probs, weights), is_first=True)
    return CrossFit(tuple(rows), (answers.confusions,), (answers.probs,), n_folds=1)


def assign_folds(units: IntArray, labels: IntArray, *, n_folds: int, seed: int) -> npt.NDArray[np.int64]:
    """Whole units to folds, so that each has about its share of every class; a stratified group k-fold.

    Units are taken from the largest on, equal ones in a random order; each goes where its classes are scarcest.

    Args:
        units: [samples], index of each one's unit.
        labels: [samples], class indices.
        n_folds: no more than there are units; each gets one at least.
        seed: of the order.

    Returns:
        [samples], the fold of each.
    """
    n_units, n_classes = int(units.max()) + 1, int(labels.max()) + 1
    cells = np.bincount(units * n_classes + labels, minlength=n_units * n_classes).reshape(n_units, n_classes)
    shares = cells / np.maximum(cells.sum(axis=0), 1)  # [units, classes], of the class's faces
    generator = np.random.default_rng([seed, 0xF01D])
    order = generator.permutation(n_units)
    order = order[np.argsort(-cells[order].sum(axis=1), kind="stable")]
    filled, sizes = np.zeros((n_folds, n_classes)), np.zeros(n_folds, dtype=np.int64)
    fold_of = np.empty(n_units, dtype=np.int64)
    for unit in order.tolist():
        crowd = filled @ shares[unit]
        fold = int(np.lexsort((sizes, np.round(crowd, 12)))[0])
        fold_of[unit] = fold
        filled[fold] += shares[unit]
        sizes[fold] += 1
    return fold_of[units]


def _answer_outside(
    library: Library,
    ways: Mapping[str, Choose],
    inside: Sequence[npt.NDArray[np.bool_]],
    answers: Sequence["_Answers"],
    *,
    seed: int,
    is_first: bool,
) -> None:
    """Let each way choose by the faces inside, and note what it says of the others."""
    first = library.answers_chosen_by(inside[0])
    known = library.inside(inside, first)
    there = known.would_be_there()
    known = known.only(there)
    said = [first, *(kind.faces.probs for kind in library.kinds[1:])]
    outside = [probs[:, ~mask] for probs, mask in zip(said, inside, strict=True)]
    for place, choose in enumerate(ways.values()):
        weights = np.zeros(library.n_candidates)
        weights[there] = choose(known, seed)
        for of_kind, probs, mask in zip(answers, outside, inside, strict=True):
            of_kind.add(place, ~mask, soft_vote(probs, weights), is_first=is_first)


class _Answers:
    """Gathers what the ways say of one kind of faces."""

    def __init__(self, kind: Kind, *, n_ways: int, n_repeats: int) -> None:
        n_classes = kind.faces.probs.shape[2]
        self.confusions = np.zeros((n_ways, kind.n_units, n_classes, n_classes), dtype=np.float64)
        self.probs = np.zeros((n_ways, len(kind.units), n_classes), dtype=np.float64)
        self._kind, self._share = kind, 1.0 / n_repeats

    def add(self, way: int, outside: npt.NDArray[np.bool_], vote: FloatArray, *, is_first: bool) -> None:
        faces = self._kind.faces
        cells = (self._kind.units[outside], faces.labels[outside], vote.argmax(axis=1))
        np.add.at(self.confusions[way], cells, self._share * faces.counts[outside])
        if is_first:
            self.probs[way, outside] = vote
