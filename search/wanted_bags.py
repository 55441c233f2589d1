"""Which bags a plan asks for: of the best configs, each on several subsamples with several seeds."""

from collections.abc import Sequence
from typing import Any

from search.bag_record import BagRecord
from search.folder import TrialRecord
from search.plan import EnsemblePlan
from spaces.config import TrialConfig
from trainables.data.table import Split

MOST_BAGS = 4
"""Bags in all, where the user names no number."""
MAX_BAG_RATIO = 0.8
"""A bag of a config that trains on everything sees this share, so that bags differ."""
LEAST_SUBJECTS = 20
"""Known subjects from which on a bag draws whole ones; of fewer, the classes' shares would be too far off."""
MOST_SEEDS = 2**31


def wanted_bags(ranked: Sequence[TrialRecord], split: Split, *, plan: EnsemblePlan) -> list[BagRecord]:
    """The bags that a plan asks for, whatever is there of them.

    Bag k of a config is the same in every final job of one seed: its settings do not depend on what was trained before.

    Args:
        ranked: usable trials, the best first; the same config counts once.
        split: the train split.
        plan: how many bags, of how many configs; its seed.

    Returns:
        The first bags of all configs, the best config's first, then the second ones, and so on.
    """
    if plan.n_bags == 0 or not ranked:
        return []
    knows_people = len(set(split.subjects) - {None}) >= LEAST_SUBJECTS
    parents: dict[str, TrialRecord] = {}
    for record in ranked:
        settings = bag_settings(record.config, number=0, plan=plan, knows_people=knows_people)
        parents.setdefault(repr(settings), record)
        if len(parents) == plan.n_configs:
            break
    n_each = -(-MOST_BAGS // len(parents)) if plan.n_bags is None else plan.n_bags
    bags = [
        BagRecord(
            parent.trial_id, number, bag_settings(parent.config, number=number, plan=plan, knows_people=knows_people)
        )
        for number in range(n_each)
        for parent in parents.values()
    ]
    return bags[:MOST_BAGS] if plan.n_bags is None else bags


def bag_settings(config: dict[str, Any], *, number: int, plan: EnsemblePlan, knows_people: bool) -> dict[str, Any]:
    """A config once more, on another subsample with another seed.

    Args:
        config: flat.
        number: of the bag among those of its config, from 0.
        plan: of the final job.
        knows_people: whether enough subjects are known to draw whole ones.

    Returns:
        The complete config, flat.
    """
    parent = TrialConfig.from_flat(config)
    bag = parent.with_settings(
        {
            "data.subsample_ratio": min(parent.data.subsample_ratio, MAX_BAG_RATIO),
            "data.subsample_by": "subjects" if knows_people else parent.data.subsample_by,
            "train.seed": (1 + 1000 * (plan.seed + 1) + number) % MOST_SEEDS,
            "train.snapshots": plan.n_snapshots,
        }
    )
    return dict(bag.to_flat())
