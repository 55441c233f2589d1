"""Draws with replacement, rare classes more often."""

import numpy as np
import numpy.typing as npt

from trainables.data.sampling import Indices, Items, Labels, Sampler, each_once


def draw(items: Items, labels: Labels, power: float, generator: np.random.Generator) -> Indices:
    """A face by (1 / N_c)^power, N_c being its class's number of items; one without a label as likely as the mean."""
    return generator.choice(len(items), size=len(items), p=_face_probs(labels, power=power))


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


SAMPLER = Sampler(each_once, draw)
