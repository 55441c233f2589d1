"""Which training faces a trial sees."""

import numpy as np
import numpy.typing as npt

from spaces.errors import DataError


def stratified_subsample(labels: npt.NDArray[np.int8], *, ratio: float, seed: int) -> npt.NDArray[np.int64]:
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
    if not (labels >= 0).any():
        raise DataError(f"train split must have labelled faces, got 0 of {len(labels)}")
    generator = np.random.default_rng([seed, 0x5AB5])
    chosen = []
    for label in np.unique(labels[labels >= 0]):
        rows = np.flatnonzero(labels == label)
        n_drawn = max(1, round(ratio * len(rows)))
        chosen.append(rows if n_drawn == len(rows) else generator.choice(rows, size=n_drawn, replace=False))
    return np.sort(np.concatenate(chosen)).astype(np.int64)
