"""Which training faces a trial sees: its subsample, the items made of it, and an epoch's order of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from spaces.errors import DataError

Sampler = Literal["shuffle", "weighted", "upsample"]
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


def training_items(labels: Labels, rows: Indices, *, sampler: Sampler) -> Items:
    """The items of a trial: its faces once, or every class repeated to the largest one's number.

    Upsampling repeats a class in whole rounds, and takes what is then missing evenly from all along its rows. It
    draws nothing at random: the same rows give the same items.

    Args:
        labels: [samples], class indices of the whole split; a face with -1 is an item once, whatever the sampler.
        rows: [n], the trial's faces.
        sampler: upsample repeats; shuffle and weighted take each face once.

    Returns:
        Items in the order of `rows`; upsampled ones in the order of rows and copies.

    Source: Li et al. 2022 (up-sampling by altered copies).
    """
    rows = rows.astype(np.int64)
    items = Items(rows=rows, copies=np.zeros_like(rows))
    own_labels = labels[rows]
    if sampler != "upsample" or not (own_labels >= 0).any():
        return items
    n_most = int(np.bincount(own_labels[own_labels >= 0]).max())
    groups = [_repeat(rows[own_labels == label], n_most) for label in np.unique(own_labels[own_labels >= 0])]
    groups.append(Items(rows=rows[own_labels < 0], copies=np.zeros((own_labels < 0).sum(), np.int64)))
    repeated = np.concatenate([group.rows for group in groups])
    copies = np.concatenate([group.copies for group in groups])
    order = np.lexsort((copies, repeated))
    return Items(rows=repeated[order], copies=copies[order])


def epoch_order(items: Items, labels: Labels, *, sampler: Sampler, power: float, seed: int, epoch: int) -> Indices:
    """The order in which an epoch takes its items.

    Args:
        items: of the trial.
        labels: [samples], class indices of the whole split.
        sampler: weighted draws with replacement, a face by (1 / N_c)^power, N_c being its class's number of items and
            a face without a label as likely as the mean of those with one; the others take every item once.
        power: of the weighted sampler; 0 draws all faces alike, 1 all classes.
        seed: of the trial.
        epoch: another epoch has another order.

    Returns:
        [n], positions in the items.
    """
    generator = np.random.default_rng([seed, epoch, 0x0DE2])
    if sampler != "weighted":
        return generator.permutation(len(items))
    probs = _face_probs(labels[items.rows], power=power)
    return generator.choice(len(items), size=len(items), p=probs)


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


def _repeat(rows: Indices, n_wanted: int) -> Items:
    """A class's faces in whole rounds, then some of them once more, until there are as many as wanted."""
    n_rounds, n_rest = divmod(n_wanted, len(rows))
    rest = rows[np.arange(n_rest) * len(rows) // max(n_rest, 1)]
    copies = np.repeat(np.arange(n_rounds + 1), [len(rows)] * n_rounds + [n_rest])
    return Items(rows=np.concatenate([np.tile(rows, n_rounds), rest]), copies=copies)


def _face_probs(labels: Labels, *, power: float) -> npt.NDArray[np.float64]:
    """[n]: how likely each item is to be drawn; sums to 1."""
    is_labelled = labels >= 0
    weights = np.ones(len(labels))
    if is_labelled.any():
        counts = np.bincount(labels[is_labelled])
        weights[is_labelled] = (1.0 / counts[labels[is_labelled]]) ** power
        weights[~is_labelled] = weights[is_labelled].mean()
    probs: npt.NDArray[np.float64] = weights / weights.sum()
    return probs
