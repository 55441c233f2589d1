"""Which training faces a trial sees: its subsample, the items made of it, and an epoch's order of them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from spaces.errors import DataError
from spaces.registries import SAMPLERS

Labels = npt.NDArray[np.int8]
Indices = npt.NDArray[np.int64]

ROUNDS = 3
"""That subjects are gone through for a subsample by subjects; later ones mend what the first left."""


@dataclass(frozen=True, eq=False)
class Items:
    """What an epoch draws from: item i is the face in row `rows[i]`, as it is or altered.

    `rows` and `copies` are [n]. Copy 0 is the face as it is; copy k > 0 is its k-th altered copy.
    """

    rows: Indices
    copies: Indices

    def __len__(self) -> int:
        return len(self.rows)


class Sampler(NamedTuple):
    """What the module of a sampler has under the name `SAMPLER`.

    Attributes:
        items: from the labels of the whole split [samples] (-1 unknown) and the trial's faces, rows [n], to its items.
        order: from the items, their labels [items], `data.sampler_power` and a generator, which is the epoch's own, to
            positions in the items, about as many as there are.
    """

    items: Callable[[Labels, Indices], Items]
    order: Callable[[Items, Labels, float, np.random.Generator], Indices]


def check_labelled(labels: Labels) -> None:
    """Raise DataError where no face to train on is labelled."""
    if not (labels >= 0).any():
        raise DataError(f"train split must have labelled faces, got 0 of {len(labels)}")


def stratified_subsample(labels: Labels, *, ratio: float, seed: int) -> Indices:
    """Draw a share of each class without replacement, at least one face a class.

    Args:
        labels: [samples], class indices; rows with -1 are never drawn.
        ratio: share of each class, above 0 and at most 1.
        seed: another seed draws other faces.

    Returns:
        Sorted row indices.

    Raises:
        DataError: no face is labelled.
    """
    check_labelled(labels)
    generator = np.random.default_rng([seed, 0x5AB5])
    chosen = []
    for label in np.unique(labels[labels >= 0]):
        rows = np.flatnonzero(labels == label)
        n_drawn = subsample_size(len(rows), ratio)
        chosen.append(rows if n_drawn == len(rows) else generator.choice(rows, size=n_drawn, replace=False))
    return np.sort(np.concatenate(chosen)).astype(np.int64)


def subject_subsample(classes: Indices, subjects: Sequence[str | None], *, ratio: float, seed: int) -> Indices:
    """Draw whole subjects so that each class comes as near to its share as they allow, at least one face a class.

    Subjects come in random order, a few times. One is taken, or left again, where the counts come nearer to the shares
    by that, as (n - share)^2 / share summed over classes measures it. Faces without a subject, each a unit of its own,
    are drawn by class after that, to make up what is missing.

    Args:
        classes: [faces], any numbers; every face may be drawn.
        subjects: [faces], None where not known.
        ratio: share of each class, above 0 and at most 1.
        seed: another seed draws other subjects.

    Returns:
        Ascending places among the faces.
    """
    generator = np.random.default_rng([seed, 0x5B7E])
    numbers, kinds = np.unique(classes, return_inverse=True)
    names = sorted({subject for subject in subjects if subject is not None})
    places = {name: place for place, name in enumerate(names)}
    people = np.array([-1 if subject is None else places[subject] for subject in subjects], dtype=np.int64)
    known, single = np.flatnonzero(people >= 0), np.flatnonzero(people < 0)
    counts = np.zeros((len(names), len(numbers)), dtype=np.int64)  # [subjects, classes]
    np.add.at(counts, (people[known], kinds[known]), 1)
    n_single = np.bincount(kinds[single], minlength=len(numbers))
    taken = _choose_subjects(counts, ratio=ratio, needed=n_single == 0, generator=generator)
    chosen = [known[taken[people[known]]]]
    for kind, n_drawn in enumerate(counts[taken].sum(axis=0)):
        n_missing = subsample_size(int(counts[:, kind].sum() + n_single[kind]), ratio) - n_drawn
        n_more = int(np.clip(n_missing, 0, n_single[kind]))
        chosen.append(generator.choice(single[kinds[single] == kind], size=n_more, replace=False))
    return np.sort(np.concatenate(chosen)).astype(np.int64)


def subsample_size(n_faces: int, ratio: float) -> int:
    """How many of a class's faces a subsample has."""
    return max(1, round(ratio * n_faces))


def training_items(labels: Labels, rows: Indices, *, sampler: str) -> Items:
    """The items of a trial.

    Args:
        labels: [samples], class indices of the whole split; a face with -1 is an item once, whatever the sampler.
        rows: [n], the trial's faces.
        sampler: a name in `SAMPLERS`.

    Returns:
        Items in the order of `rows`; repeated ones in the order of rows and copies.
    """
    return _sampler_of(sampler).items(labels, rows.astype(np.int64))


def epoch_order(items: Items, labels: Labels, *, sampler: str, power: float, seed: int, epoch: int) -> Indices:
    """The order in which an epoch takes its items.

    Args:
        items: of the trial.
        labels: [samples], class indices of the whole split.
        sampler: a name in `SAMPLERS`.
        power: of the weighted sampler; 0 draws all faces alike, 1 all classes.
        seed: of the trial.
        epoch: another epoch has another order.

    Returns:
        [n], positions in the items.
    """
    generator = np.random.default_rng([seed, epoch, 0x0DE2])
    return _sampler_of(sampler).order(items, labels[items.rows], power, generator)


def each_once(labels: Labels, rows: Indices) -> Items:
    """Every face as it is, once."""
    return Items(rows=rows, copies=np.zeros_like(rows))


def in_random_order(items: Items, labels: Labels, power: float, generator: np.random.Generator) -> Indices:
    """Every item once."""
    return generator.permutation(len(items))


def _sampler_of(name: str) -> Sampler:
    sampler: Sampler = import_module(SAMPLERS[name].module).SAMPLER
    return sampler


def _choose_subjects(
    counts: Indices, *, ratio: float, needed: npt.NDArray[np.bool_], generator: np.random.Generator
) -> npt.NDArray[np.bool_]:
    """[subjects], which are taken; classes that are needed get one that has them, where they have any."""
    shares = ratio * counts.sum(axis=0)
    worth = np.divide(1.0, shares, out=np.zeros(len(shares)), where=shares > 0)
    taken = np.zeros(len(counts), dtype=bool)
    drawn = np.zeros(len(shares))

    def change(place: int) -> Indices:
        own: Indices = counts[place]
        return -own if taken[place] else own

    def gain(place: int) -> float:
        """By how much the counts come nearer to the shares if this subject is taken, or left again."""
        return float((worth * change(place)) @ (2.0 * (shares - drawn) - change(place)))

    def turn(place: int) -> None:
        drawn[:] += change(place)
        taken[place] = not taken[place]

    for _ in range(ROUNDS):
        for place in generator.permutation(len(counts)).tolist():
            if gain(place) > 0:
                turn(place)
    for kind in np.flatnonzero(needed & (shares > 0)):
        if drawn[kind] == 0:  # looked at one by one: a subject that comes for one class may bring another
            turn(max(np.flatnonzero(counts[:, kind]).tolist(), key=gain))
    return taken
