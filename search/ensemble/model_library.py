"""What an ensemble is selected from: the candidates, what they say of labelled faces, and who the faces belong to.

The word is Caruana's: ensemble selection from libraries of models (ICML 2004).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from search.ensemble.faces import Faces, Objective, checked_faces, combine
from search.ensemble.macro_f1 import FloatArray, IntArray, Scores, macro_f1_of_probs
from spaces.errors import EnsembleError

Unit = Literal["subject", "row"]
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Traits:
    """What is known of the candidates beside their answers; each [candidates].

    Attributes:
        names: each once.
        backbones: by name.
        is_strong: trained on most of the faces, not on a small subsample of them.
        is_complete: trained to the end; one that was cut short has no place in an unweighted average.
        config: number of the config that it was trained by; a trial and the bags of its config share one.
        is_trial: of the search itself.
        is_bag: trained because its config was among the best.
    """

    names: tuple[str, ...]
    backbones: tuple[str, ...]
    is_strong: Mask
    is_complete: Mask
    config: IntArray
    is_trial: Mask
    is_bag: Mask

    def only(self, candidates: npt.NDArray[np.intp]) -> "Traits":
        """Those of some candidates."""
        return Traits(
            tuple(self.names[i] for i in candidates.tolist()),
            tuple(self.backbones[i] for i in candidates.tolist()),
            self.is_strong[candidates],
            self.is_complete[candidates],
            self.config[candidates],
            self.is_trial[candidates],
            self.is_bag[candidates],
        )


@dataclass(frozen=True, eq=False)
class Kind:
    """Faces of one kind, and the people they belong to.

    Attributes:
        faces: with what each candidate says of them.
        units: [samples], index of the person; of the face itself where people are not known.
        unit: which of the two it is.
    """

    faces: Faces
    units: IntArray
    unit: Unit

    @property
    def n_units(self) -> int:
        """People, or faces."""
        return int(self.units.max()) + 1


@dataclass(frozen=True, eq=False)
class Library:
    """All that selecting may look at.

    Attributes:
        kinds: faces of one kind, or of several.
        traits: of the candidates.
        objective: how the scores on several kinds become one.
        variants: of each candidate the answers on the first kind among which its training chose, such as those of
            several epochs, [variants, samples, classes]; None where they are not known.
        n_configs: bags are trained of so many best configs.
    """

    kinds: tuple[Kind, ...]
    traits: Traits
    objective: Objective = "mean"
    variants: tuple[Scores | None, ...] = ()
    n_configs: int = 0

    @property
    def n_candidates(self) -> int:
        """How many may vote."""
        return len(self.kinds[0].faces.probs)

    @property
    def faces(self) -> list[Faces]:
        """Of each kind."""
        return [kind.faces for kind in self.kinds]

    def alone(self) -> FloatArray:
        """The objective of each candidate by itself, [candidates]."""
        return combine([faces.macro_f1_alone() for faces in self.faces], self.objective)

    def score(self, weights: npt.ArrayLike) -> float:
        """The objective of a weighted vote."""
        scores = [np.asarray(faces.macro_f1_of_vote(weights)) for faces in self.faces]
        return float(combine(scores, self.objective))

    def only(self, candidates: npt.NDArray[np.intp]) -> "Library":
        """The library with some of its candidates."""
        kinds = tuple(replace(kind, faces=kind.faces.only(candidates)) for kind in self.kinds)
        variants = tuple(self.variants[i] for i in candidates.tolist()) if self.variants else ()
        return replace(self, kinds=kinds, traits=self.traits.only(candidates), variants=variants)

    def pooled(self) -> "Library":
        """The library for those who select in it again and again, with other counts."""
        return replace(self, kinds=tuple(replace(kind, faces=kind.faces.pooled()) for kind in self.kinds))

    def redrawn(self, generator: np.random.Generator) -> "Library":
        """A bootstrap draw: as many people as there are, some of them several times, some not at all."""
        return replace(self, kinds=tuple(_redrawn(kind, generator) for kind in self.kinds))

    def inside(self, masks: Sequence[Mask], answers: Scores | None = None) -> "Library":
        """What would be known if only some faces were: epochs are chosen by them again, and which configs get bags.

        Args:
            masks: for each kind, [samples], the faces that are known; in each some.
            answers: of `answers_chosen_by`, for the first kind's mask, where they are known already.

        Returns:
            A library of the same candidates; `would_be_there` says which of them these faces would have led to.
        """
        first = self.answers_chosen_by(masks[0]) if answers is None else answers
        kinds = []
        for place, (kind, mask) in enumerate(zip(self.kinds, masks, strict=True)):
            probs = first if place == 0 else kind.faces.probs
            faces = Faces(probs[:, mask], kind.faces.labels[mask], kind.faces.counts[mask])
            units = np.unique(kind.units[mask], return_inverse=True)[1].astype(np.int64)
            kinds.append(Kind(faces, units, kind.unit))
        return replace(self, kinds=tuple(kinds), variants=())

    def answers_chosen_by(self, mask: Mask) -> Scores:
        """What each candidate says of the first kind where some of these faces alone chose among its variants.

        Args:
            mask: [samples], the faces that choose.

        Returns:
            [candidates, samples, classes], of all faces.
        """
        faces = self.kinds[0].faces
        if not any(variants is not None for variants in self.variants):
            return faces.probs
        labels, counts = faces.labels[mask], faces.counts[mask]
        chosen = faces.probs.copy()
        for index, variants in enumerate(self.variants):
            if variants is not None:
                best = macro_f1_of_probs(variants[:, mask], labels, counts=counts).argmax()
                chosen[index] = variants[best]
        return chosen

    def would_be_there(self) -> npt.NDArray[np.intp]:
        """Candidates that these faces alone would have led to: no bags of configs that are not among the best here."""
        traits = self.traits
        trials = np.flatnonzero(traits.is_trial)
        if not traits.is_bag.any() or not len(trials):
            return np.arange(self.n_candidates)
        alone = self.alone()
        ranked = traits.config[trials[np.argsort(-alone[trials], kind="stable")]]
        best = list(dict.fromkeys(ranked.tolist()))[: self.n_configs]
        is_there = ~traits.is_bag | np.isin(traits.config, best)
        return np.flatnonzero(is_there)


def _redrawn(kind: Kind, generator: np.random.Generator) -> Kind:
    n_units = kind.n_units
    times = np.bincount(generator.integers(n_units, size=n_units), minlength=n_units)[kind.units]
    return replace(kind, faces=kind.faces.counted(kind.faces.counts * times))


def make_kind(probs: npt.ArrayLike, labels: npt.ArrayLike, subjects: Sequence[str | None] | None) -> Kind:
    """Faces with their people from plain arrays; faces without a label are left out.

    Args:
        probs: [candidates, samples, classes].
        labels: [samples], class indices or -1.
        subjects: [samples], the person or None; a face without a person is a unit by itself.

    Raises:
        EnsembleError: shapes disagree, no face is labelled, or a number is no probability.
    """
    units, unit = units_of(subjects, np.asarray(labels) >= 0)
    return Kind(checked_faces(probs, labels), units, unit)


def plain_traits(n_candidates: int) -> Traits:
    """Traits of candidates of which nothing is known but their answers."""
    nothing = np.zeros(n_candidates, dtype=bool)
    names = tuple(str(number) for number in range(n_candidates))
    return Traits(names, ("",) * n_candidates, ~nothing, ~nothing, np.arange(n_candidates), ~nothing, nothing)


def units_of(subjects: Sequence[str | None] | None, labelled: Mask) -> tuple[npt.NDArray[np.int64], Unit]:
    """The unit's index of each labelled row; rows are the units where fewer than two subjects are known.

    Raises:
        EnsembleError: there are more or fewer subjects than samples.
    """
    n_rows = int(labelled.sum())
    if subjects is None:
        return np.arange(n_rows), "row"
    if len(subjects) != len(labelled):
        raise EnsembleError(f"subjects must be one a sample ({len(labelled)}), got {len(subjects)}")
    rows: list[Any] = [subjects[row] for row in np.flatnonzero(labelled).tolist()]
    if len({name for name in rows if name is not None}) < 2:
        return np.arange(n_rows), "row"
    names = [f"row {row}" if name is None else f"subject {name}" for row, name in enumerate(rows)]
    return np.unique(names, return_inverse=True)[1].astype(np.int64), "subject"
