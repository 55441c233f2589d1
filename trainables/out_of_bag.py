"""Out of bag: what a bag's network says of the training faces that it did not see, and what all bags together say.

Source: Breiman, Out-of-bag estimation, 1996.
"""

import time
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from spaces.config import TrialConfig
from spaces.errors import DataError
from trainables.checkpoint import NetworkSpec, load_network
from trainables.data.label_orders import columns_for
from trainables.data.sampling import Items
from trainables.data.table import Split
from trainables.kept_epochs import ScoredEpoch
from trainables.models.architectures.network import ExpressionNetwork
from trainables.models.inputs import predict_logits
from trainables.scores import Scores, blend_logits, load_scores, to_logits

OUT_OF_BAG_FILE = "scores/oob.arrow"
LARGEST_SHARE = 0.2
"""Of a bag's time, that is kept for this; where the faces need more, they are scored only if time is left over."""
FACES_AT_ONCE = 1024
"""Read from the table, which may be larger than memory."""

Logits = npt.NDArray[np.float32]


class UnseenFaces:
    """The training faces with an expression that a trial leaves out.

    Attributes:
        rows: int64 [unseen], ascending, in the train split.
    """

    def __init__(
        self, split: Split, items: Items, config: TrialConfig, *, n_valid: int, deadline_s: float | None
    ) -> None:
        """
        Args:
            split: the train split.
            items: of the trial.
            config: of the trial; the blend is used.
            n_valid: faces of the valid split, by whose scoring times are foreseen.
            deadline_s: Unix time by which the trial must have ended; None for no deadline.
        """
        self.rows = np.setdiff1d(np.flatnonzero(split.expression >= 0), items.rows)
        self._split = split
        self._blend = config.blend
        n_networks = 1 if config.blend.partner == "none" else 2
        self._scorings = n_networks * len(self.rows) / n_valid
        self._deadline_s = deadline_s
        self._most_s = 0.0 if deadline_s is None else LARGEST_SHARE * max(deadline_s - time.time(), 0.0)

    def reserve_s(self, scoring_s: float) -> float:
        """Seconds to keep free before the deadline.

        Args:
            scoring_s: that the valid split took.
        """
        return min(self._scorings * scoring_s, self._most_s)

    def is_in_time(self, scoring_s: float) -> bool:
        """Whether scoring these faces now is likely to end before the deadline, or a second after it."""
        return self._deadline_s is None or time.time() + self._scorings * scoring_s <= self._deadline_s + 1.0

    def scores(
        self,
        network: ExpressionNetwork,
        best: ScoredEpoch,
        spec: NetworkSpec,
        *,
        head_state: dict[str, torch.Tensor] | None,
    ) -> Scores:
        """What the best epoch's network says of the unseen faces as they are, not moved; the partner blended in.

        Args:
            network: takes up the weights of the best epoch.
            best: of the trial.
            spec: of the network, without a hand rule.
            head_state: weights after the head-only epochs, where they are the partner.
        """
        partner = self._ask_partner(network, spec, head_state)
        network.load_state_dict(best.state)
        logits = self._ask(network, replace(spec, hand_rule=best.rule))
        if partner is not None:
            logits = blend_logits(logits, partner, weight=self._blend.weight, space=self._blend.space)
        return Scores(
            sample_ids=tuple(self._split.sample_ids[row] for row in self.rows),
            subjects=tuple(self._split.subjects[row] for row in self.rows),
            labels=self._split.expression[self.rows],
            logits=logits,
            classes=spec.classes,
        )

    def _ask_partner(
        self, network: ExpressionNetwork, spec: NetworkSpec, head_state: dict[str, torch.Tensor] | None
    ) -> Logits | None:
        if self._blend.partner == "none":
            return None
        if self._blend.partner == "head":
            assert head_state is not None, "the head-only epochs come first"
            network.load_state_dict(head_state)
            return self._ask(network, spec)
        other, its_spec = load_network(Path(self._blend.partner).expanduser())
        device = next(network.parameters()).device
        return self._ask(other.to(device), its_spec)[:, columns_for(its_spec.classes, spec.classes)]

    def _ask(self, network: ExpressionNetwork, spec: NetworkSpec) -> Logits:
        """[unseen, classes of the spec]."""
        starts = range(0, len(self.rows), FACES_AT_ONCE)
        pieces = [self.rows[start : start + FACES_AT_ONCE] for start in starts]
        return np.concatenate([predict_logits(network, self._split.images[rows], spec) for rows in pieces])


def out_of_bag(folders: Iterable[Path]) -> Scores | None:
    """For each training face the mean probability over the bags that have not seen it.

    Args:
        folders: of bags, each counted once; one that has no scores out of bag is left out.

    Returns:
        The mean probabilities as logits, by sample id, of the faces that some bag has not seen; None where there are
        none.

    Raises:
        DataError: a file is broken, or bags have other classes than the first.
    """
    paths = [folder / OUT_OF_BAG_FILE for folder in dict.fromkeys(folders)]
    said = [load_scores(path) for path in paths if path.exists()]
    if not said:
        return None
    classes = said[0].classes
    others = next((scores.classes for scores in said if scores.classes != classes), None)
    if others is not None:
        raise DataError(f"bags must have the classes {', '.join(classes)}, got {', '.join(others)}")
    all_ids = np.concatenate([scores.sample_ids for scores in said])
    ids, first, places = np.unique(all_ids, return_index=True, return_inverse=True)
    totals, counts = np.zeros((len(ids), len(classes))), np.bincount(places)
    np.add.at(totals, places, np.concatenate([scores.probs for scores in said]))
    subjects = [subject for scores in said for subject in scores.subjects]
    return Scores(
        sample_ids=tuple(ids.tolist()),
        subjects=tuple(subjects[place] for place in first),
        labels=np.concatenate([scores.labels for scores in said])[first],
        logits=to_logits(totals / counts[:, None]),
        classes=classes,
    )
