"""Which faces train, which choose, which judge: no person stands in two splits, and each split has all classes."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from spaces.errors import DataError, shown
from trainables.data.duplicates import OnBad
from trainables.data.rows import Rows
from trainables.data.table import SPLITS, SplitName

TRAIN = SPLITS.index("train")


def keep_subjects_apart(rows: Rows, *, on_bad: OnBad, notes: list[str]) -> NDArray[np.bool_]:
    """Which faces to keep so that nobody stands in two splits: test keeps a person before valid before train.

    Returns:
        [n], true for the faces that stay.

    Raises:
        DataError: somebody stands in two splits, and `on_bad` is fail.
    """
    last: dict[str, int] = {}
    for subject, split in zip(rows.subjects, rows.split, strict=True):
        if subject is not None:
            last[subject] = max(last.get(subject, 0), int(split))
    keep = np.array([s is None or last[s] == split for s, split in zip(rows.subjects, rows.split, strict=True)], bool)
    if keep.all():
        return keep
    people = sorted(set(rows.subjects[~keep]))
    first = int(np.flatnonzero(~keep)[0])
    if on_bad == "fail":
        subject, split = rows.subjects[first], SPLITS[rows.split[first]]
        also = SPLITS[last[subject]]
        raise DataError(
            f"a subject must stand in one split, got {shown(subject)} in {split} and {also} "
            f"({len(people):,} such subjects); --on-bad skip leaves their {split} faces out"
        )
    counts = ", ".join(f"{int((~keep & (rows.split == i)).sum()):,} in {name}" for i, name in enumerate(SPLITS[:2]))
    notes.append(
        f"warning: {int((~keep).sum()):,} faces left out ({counts}), as their {len(people):,} subjects "
        "stand in a later split too"
    )
    return keep


def cut_splits(
    rows: Rows, *, ratios: Mapping[SplitName, float], n_classes: int, seed: int, notes: list[str]
) -> NDArray[np.int8]:
    """Cut valid, test or both from train: stratified by class, never through a subject, the same for the same seed.

    Subjects with several faces are dealt first, the largest first, each to the split whose class counts gain most;
    single faces then fill each class to its share. Every split gets a face of every class where there are enough.

    Args:
        ratios: split to its share of the training faces.

    Returns:
        [n] index of the split.
    """
    members = np.flatnonzero(rows.split == TRAIN)
    groups, counts = _group_by_subject(rows.subjects[members], rows.expression[members], n_classes)
    shares = np.zeros(len(SPLITS))
    for name, ratio in ratios.items():
        shares[SPLITS.index(name)] = ratio
    shares[TRAIN] = 1 - shares.sum()
    generator = np.random.default_rng(seed)
    dealt = _deal_people(counts, shares, generator)
    dealt = _deal_singles(counts, shares, dealt, generator)
    _give_every_class(counts, dealt, [SPLITS.index(name) for name in SPLITS if name == "train" or name in ratios])
    split = rows.split.copy()
    split[members] = dealt[groups]
    n_people = int((counts.sum(axis=1) > 1).sum())
    people = f", {n_people:,} subjects with several faces kept whole" if n_people else ""
    notes.append(f"{' and '.join(ratios)} cut from train, stratified by class with seed {seed}{people}")
    return split


def note_absent_classes(rows: Rows, classes: Sequence[str], *, notes: list[str]) -> None:
    """Say which classes a split lacks; macro-F1 counts them as 0 there."""
    for name in SPLITS:
        counts = rows.count(len(classes), name)
        absent = [c for c, n in zip(classes, counts, strict=True) if n == 0]
        if counts.sum() and absent:
            notes.append(f"warning: {name} has no face of {', '.join(absent)}")


def _group_by_subject(
    subjects: NDArray[np.object_], expression: NDArray[np.int8], n_classes: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Each face's group [n], and the groups' faces per class [groups, classes + 1], not labelled ones last."""
    numbers: dict[object, int] = {}
    keys = [("face", row) if subject is None else subject for row, subject in enumerate(subjects)]
    groups = np.array([numbers.setdefault(key, len(numbers)) for key in keys], np.int64)
    counts = np.zeros((len(numbers), n_classes + 1), np.int64)
    np.add.at(counts, (groups, expression), 1)  # -1, not labelled, is the last column
    return groups, counts


def _deal_people(
    counts: NDArray[np.int64], shares: NDArray[np.float64], generator: np.random.Generator
) -> NDArray[np.int8]:
    """Splits of the groups with several faces; -1 for the others."""
    dealt = np.full(len(counts), -1, np.int8)
    sizes = counts.sum(axis=1)
    total = np.maximum(counts.sum(axis=0), 1)
    missing = shares[:, None] * total  # [splits, classes + 1]
    order = generator.permutation(len(counts))
    for group in order[np.argsort(-sizes[order], kind="stable")]:
        if sizes[group] < 2:
            break
        cost = (counts[group] * (counts[group] - 2 * missing) / total**2).sum(axis=1)
        dealt[group] = np.argmin(np.where(shares > 0, cost, np.inf))
        missing[dealt[group]] -= counts[group]
    return dealt


def _deal_singles(
    counts: NDArray[np.int64], shares: NDArray[np.float64], dealt: NDArray[np.int8], generator: np.random.Generator
) -> NDArray[np.int8]:
    """Groups of one face fill each class to its share."""
    dealt = dealt.copy()
    for stratum in range(counts.shape[1]):
        singles = generator.permutation(np.flatnonzero((dealt < 0) & (counts[:, stratum] > 0)))
        have = np.array([counts[dealt == split, stratum].sum() for split in range(len(shares))])
        missing = np.maximum(shares * counts[:, stratum].sum() - have, 0)
        wanted = missing * len(singles) / missing.sum() if missing.sum() else shares * len(singles)
        dealt[singles] = np.repeat(np.arange(len(shares)), _round_to_sum(wanted, len(singles)))
    return dealt


def _round_to_sum(wanted: NDArray[np.float64], total: int) -> NDArray[np.int64]:
    """Whole numbers near `wanted` that sum to `total` (largest remainders)."""
    whole = np.floor(wanted + 1e-9).astype(np.int64)
    most = np.argsort(whole - wanted, kind="stable")[: total - int(whole.sum())]
    whole[most] += 1
    return whole


def _give_every_class(counts: NDArray[np.int64], dealt: NDArray[np.int8], splits: Sequence[int]) -> None:
    """Move small groups, in place, until each split has each class, train first, as far as there are groups."""
    have = np.array([counts[dealt == split].sum(axis=0) for split in range(len(SPLITS))])
    for split in splits:
        for stratum in np.flatnonzero(have[split, :-1] == 0):
            best = _smallest_to_spare(counts, dealt, have, stratum, [s for s in splits if s != split])
            if best is None and split == TRAIN:
                holders = np.flatnonzero(counts[:, stratum] > 0)
                best = int(holders[0]) if len(holders) else None
            if best is not None:
                have[dealt[best]] -= counts[best]
                have[split] += counts[best]
                dealt[best] = split


def _smallest_to_spare(
    counts: NDArray[np.int64], dealt: NDArray[np.int8], have: NDArray[np.int64], stratum: np.intp, donors: Sequence[int]
) -> int | None:
    """The smallest group with a face of the class whose split keeps a face of each of the group's classes."""
    holders = np.flatnonzero((counts[:, stratum] > 0) & np.isin(dealt, donors))
    left = have[dealt[holders], :-1] - counts[holders, :-1]
    holders = holders[((left > 0) | (counts[holders, :-1] == 0)).all(axis=1)]
    return int(holders[np.argmin(counts[holders].sum(axis=1))]) if len(holders) else None
