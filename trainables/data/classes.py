"""The names of classes: which there are, how they may be spelt, and which index a label has."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from spaces.errors import DataError, UsageError, near_miss, shown
from trainables.data.labels import NOT_LABELLED

MISSPELT: Mapping[str, str] = {"angere": "anger", "angrer": "anger"}
"""Folder names of published data sets that are a misspelt class; reading one is worth a warning."""

ALIASES: Mapping[str, str] = {
    **MISSPELT,
    "angry": "anger",
    "disgusted": "disgust",
    "fearful": "fear",
    "happy": "happiness",
    "sad": "sadness",
    "surprised": "surprise",
}
"""Other words for the usual classes; they mean the same only where the user named the right-hand one as a class."""

LEFT_OUT = -2
"""Index of a label that is known but not among the classes asked for."""

MAX_CLASSES = 127

MAX_NAME = 100
"""Characters of a class's name."""

_CODE = re.compile(r"-?\d{1,9}(\.0+)?")


def is_name(text: str) -> bool:
    """Whether a text can name a class: it stands in a line of its own, in headings, and in files of scores."""
    return bool(text) and text.isprintable() and len(text) <= MAX_NAME


def class_key(name: str) -> str:
    """The form in which class names are compared."""
    return name.strip().casefold()


def usual_word(name: str) -> str:
    """The key of the class that a name means, where every other word for a usual class counts as that class."""
    return ALIASES.get(class_key(name), class_key(name))


def choose_classes(labels: Sequence[str | None], *, wanted: Sequence[str] | None, where: str) -> tuple[str, ...]:
    """The classes of a table, in order: those asked for, else those of the training labels, sorted.

    Args:
        labels: of the training faces, as given; None = not labelled.
        wanted: names to keep, in the order of their indices.
        where: the training source, for the error.

    Raises:
        UsageError: too few or too many classes are asked for, or one twice.
        DataError: a class asked for has no training face (the near miss is offered), or there are too few or too many.
    """
    counts = Counter(label.strip() for label in labels if label is not None)
    if wanted is not None:
        _check_wanted(wanted, counts, where=where)
        return tuple(name.strip() for name in wanted)
    spellings: dict[str, str] = {}
    for name, _ in counts.most_common():
        spellings.setdefault(class_key(name), name)
    numeric = all(name.isdecimal() for name in spellings)
    for name in spellings.values():
        if not is_name(name):
            rule = f"label must be printable and at most {MAX_NAME} characters to name a class"
            raise DataError(f"{rule}, got {shown(name)}: {where}; --label-column names their column")
    names = sorted(spellings.values(), key=lambda name: (int(name) if numeric else 0, name))
    if not 2 <= len(names) <= MAX_CLASSES:
        got = ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
        rule = f"labels must name between 2 and {MAX_CLASSES} classes, got {len(names)}"
        raise DataError(f"{rule} ({got or 'none'}): {where}; --label-column names their column")
    return tuple(names)


def index_labels(
    labels: Sequence[str | None], *, classes: Sequence[str], train_labels: set[str], restricted: bool, where: str
) -> NDArray[np.int8]:
    """Each label's index among the classes.

    Args:
        labels: as given; None = not labelled.
        train_labels: keys of all labels that stand in train.
        restricted: the classes were asked for, so that other labels are left out and aliases mean their class.
        where: the source, for the error.

    Returns:
        int8 [n]: an index, -1 = not labelled, or LEFT_OUT.

    Raises:
        DataError: a label is neither a class nor one of train's.
    """
    lookup = {class_key(name): index for index, name in enumerate(classes)}
    if restricted:
        lookup = {**{alias: lookup[name] for alias, name in ALIASES.items() if name in lookup}, **lookup}
    indices: dict[str | None, int] = {None: NOT_LABELLED}
    for label in dict.fromkeys(label for label in labels if label is not None):
        index = lookup.get(class_key(label), LEFT_OUT)
        if index == LEFT_OUT and class_key(label) not in train_labels:
            _check_is_far(label, classes, restricted=restricted, where=where)
        indices[label] = index
    return np.array([indices[label] for label in labels], np.int8)


def name_codes(labels: Sequence[str | None], *, wanted: Sequence[str] | None, where: str) -> list[str | None]:
    """Labels given as whole numbers, by the names asked for in their order; -1 = not labelled.

    Where no names were asked for, or they are numbers themselves, the numbers are the names.

    Raises:
        DataError: a number has no name.
    """
    if not is_coded(labels):
        return list(labels)
    codes = [None if label is None or float(label) == -1 else int(float(label)) for label in labels]
    if wanted is None or all(_CODE.fullmatch(name.strip()) for name in wanted):
        return [None if code is None else str(code) for code in codes]
    for row, code in enumerate(codes):
        if code is not None and not 0 <= code < len(wanted):
            rule = f"a label given as a number must be below {len(wanted)}, the number of --classes"
            raise DataError(f"{rule}, got {code}: row {row + 1} of {where}; name all, in the order of the numbers")
    return [None if code is None else wanted[code] for code in codes]


def is_coded(labels: Sequence[str | None]) -> bool:
    """Whether all known labels are whole numbers."""
    known = {label for label in labels if label is not None}
    return bool(known) and all(_CODE.fullmatch(label) for label in known)


def likely_same(names: Sequence[str]) -> list[tuple[str, str]]:
    """Pairs of classes that are probably one, such as `sad` and `sadness`."""
    keys = {class_key(name) for name in names}
    return sorted((alias, name) for alias, name in ALIASES.items() if alias in keys and name in keys)


def note_misspelt(labels: Sequence[str | None], *, classes: Sequence[str], notes: list[str]) -> None:
    """Say which labels were taken for a class that they misspell."""
    keys = {class_key(name) for name in classes}
    for label in sorted({label for label in labels if label is not None}):
        meant = MISSPELT.get(class_key(label))
        if meant in keys and class_key(label) not in keys:
            notes.append(f"warning: label {label!r} is misspelt and counts as {meant!r}")


def class_near_miss(name: str, known: Sequence[str]) -> str:
    """The tail of a sentence that offers the closest class: another word for it, or another spelling."""
    key = class_key(name)
    words = {ALIASES.get(key), *(alias for alias, target in ALIASES.items() if target == key)}
    same = [other for other in known if class_key(other) in words]
    return f"; did you mean {same[0]!r}" if same else near_miss(name, known)


def _check_wanted(wanted: Sequence[str], counts: Counter[str], *, where: str) -> None:
    keys = Counter(class_key(name) for name in wanted)
    if len(wanted) < 2 or len(wanted) > MAX_CLASSES or "" in keys:
        got = shown(",".join(wanted))
        raise UsageError(f"--classes must name between 2 and {MAX_CLASSES} classes, got {got}")
    for name in wanted:
        if keys[class_key(name)] > 1:
            raise UsageError(f"--classes must name each class once, got {name!r} twice")
        if not is_name(name.strip()):
            rule = f"--classes must be printable names of at most {MAX_NAME} characters"
            raise UsageError(f"{rule}, got {shown(name)}")
    there = {class_key(name) for name in counts}
    there |= {ALIASES[key] for key in there if key in ALIASES}
    for name in wanted:
        if class_key(name) not in there:
            rest = [other for other in counts if class_key(other) not in keys] or list(counts)
            raise DataError(f"class {name!r} must have training faces, got 0: {where}{class_near_miss(name, rest)}")


def _check_is_far(label: str, classes: Sequence[str], *, restricted: bool, where: str) -> None:
    """A label that train lacks may be left out only where classes were asked for, and when it is no misspelt class."""
    tail = class_near_miss(label, classes)
    if not restricted or "did you mean" in tail:
        raise DataError(f"class {label!r} must have training faces, got 0: {where}{tail}")
