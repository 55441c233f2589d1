"""What is known of a search's candidates, laid out for choosing among them."""

from collections.abc import Sequence

import numpy as np

from search.candidates import Candidate, FloatArray, stack_probs
from search.ensemble.faces import Objective
from search.ensemble.model_library import Library, Traits, make_kind
from search.other_faces import OtherFaces
from search.wanted_bags import MAX_BAG_RATIO

STRONG_RATIO = 0.5
"""Trained on this share of the faces or more, a candidate counts as strong."""
MOST_VARIANT_BYTES = 1 << 30
"""Epochs to choose among are taken into account where all of them together need no more memory."""
NOT_OF_A_CONFIG = ("train.seed", "data.subsample_by", "train.snapshots")
"""Settings in which a bag differs from the trial whose config it repeats; and in the share of faces, where that was
above `MAX_BAG_RATIO`."""


def make_library(
    candidates: Sequence[Candidate],
    *,
    n_configs: int,
    others: Sequence[tuple[OtherFaces, FloatArray]] = (),
    objective: Objective | None = None,
) -> Library:
    """What is known of some candidates, for choosing among them.

    Args:
        candidates: that passed `shortlist`.
        n_configs: bags were trained of so many best configs.
        others: faces of other kinds with what the candidates say of them.
        objective: how the scores on all kinds become one; the search's own faces alone count where omitted.
    """
    first = candidates[0].scores
    kinds = [make_kind(stack_probs(candidates), first.labels, first.subjects)]
    if objective is not None:
        kinds += [make_kind(probs, faces.labels, faces.subjects) for faces, probs in others]
    labelled = first.labels >= 0
    n_bytes = sum(c.variants.nbytes for c in candidates if c.variants is not None)
    with_variants = n_bytes <= MOST_VARIANT_BYTES
    variants = tuple(c.variants[:, labelled] if with_variants and c.variants is not None else None for c in candidates)
    return Library(tuple(kinds), _traits(candidates), objective or "mean", variants, n_configs)


def _traits(candidates: Sequence[Candidate]) -> Traits:
    configs: dict[tuple[tuple[str, str], ...], int] = {}
    numbers = []
    for candidate in candidates:
        settings = {name: value for name, value in candidate.config.items() if name not in NOT_OF_A_CONFIG}
        settings["data.subsample_ratio"] = min(_ratio(candidate), MAX_BAG_RATIO)
        key = tuple(sorted((name, repr(value)) for name, value in settings.items()))
        numbers.append(configs.setdefault(key, len(configs)))
    return Traits(
        names=tuple(c.key for c in candidates),
        backbones=tuple(f"{c.config.get('model.backbone')}/{c.config.get('model.encoder')}" for c in candidates),
        is_strong=np.array([_ratio(c) >= STRONG_RATIO for c in candidates]),
        is_complete=np.array([c.is_complete for c in candidates]),
        config=np.array(numbers),
        is_trial=np.array([c.is_trial for c in candidates]),
        is_bag=np.array([c.is_bag for c in candidates]),
    )


def _ratio(candidate: Candidate) -> float:
    """The share of the training faces that it was trained on."""
    return float(candidate.config.get("data.subsample_ratio", 1.0))
