"""Every class repeated to the largest one's number by altered copies.

Source: Li et al. 2022 (up-sampling by altered copies).
"""

import numpy as np

from trainables.data.sampling import Indices, Items, Labels, Sampler, each_once, in_random_order


def repeat_to_the_largest(labels: Labels, rows: Indices) -> Items:
    """Repeat a class in whole rounds, and take what is then missing evenly from all along its rows.

    It draws nothing at random: the same rows give the same items. Faces without a label are items once.
    """
    own_labels = labels[rows]
    if not (own_labels >= 0).any():
        return each_once(labels, rows)
    n_most = int(np.bincount(own_labels[own_labels >= 0]).max())
    groups = [_repeat(rows[own_labels == label], n_most) for label in np.unique(own_labels[own_labels >= 0])]
    groups.append(Items(rows=rows[own_labels < 0], copies=np.zeros((own_labels < 0).sum(), np.int64)))
    repeated = np.concatenate([group.rows for group in groups])
    copies = np.concatenate([group.copies for group in groups])
    order = np.lexsort((copies, repeated))
    return Items(rows=repeated[order], copies=copies[order])


def _repeat(rows: Indices, n_wanted: int) -> Items:
    """A class's faces in whole rounds, then some of them once more, until there are as many as wanted."""
    n_rounds, n_rest = divmod(n_wanted, len(rows))
    rest = rows[np.arange(n_rest) * len(rows) // max(n_rest, 1)]
    copies = np.repeat(np.arange(n_rounds + 1), [len(rows)] * n_rounds + [n_rest])
    return Items(rows=np.concatenate([np.tile(rows, n_rounds), rest]), copies=copies)


SAMPLER = Sampler(repeat_to_the_largest, in_random_order)
