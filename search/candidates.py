"""Who may vote: trials and bags with their stored scores and the networks behind them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from search.folder import SearchFolder, TrialRecord
from spaces.errors import DataError, EnsembleError
from trainables.checkpoint import load_network
from trainables.data.label_orders import columns_for
from trainables.data.table import Split
from trainables.models.inputs import predict_logits
from trainables.scores import Scores, load_scores, softmax
from trainables.trainer import HEAD_FILE, SCORES_FILE, WEIGHTS_FILE

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Voter:
    """One network of a candidate: a file and its share of the candidate's vote."""

    path: Path
    weight: float
    role: Literal["fine_tuned", "partner"]


@dataclass(frozen=True)
class Candidate:
    """A trial or bag that can be a member.

    Attributes:
        key: t0007 or b003.
        folder: what it left.
        config: flat.
        scores: of its best epoch on the valid split, the partner blended in.
        is_complete: whether it was trained to its end; one cut short has no place in an unweighted average.
    """

    key: str
    folder: Path
    config: dict[str, Any]
    scores: Scores
    is_complete: bool

    @property
    def voters(self) -> list[Voter]:
        """Its networks: the fine-tuned one, and the partner's where it blends."""
        partner, weight = str(self.config["blend.partner"]), float(self.config["blend.weight"])
        if partner == "none":
            return [Voter(self.folder / WEIGHTS_FILE, 1.0, "fine_tuned")]
        path = self.folder / HEAD_FILE if partner == "head" else Path(partner).expanduser()
        voters = [
            Voter(self.folder / WEIGHTS_FILE, 1.0 - weight, "fine_tuned"),
            Voter(path, weight, "partner"),
        ]
        return [voter for voter in voters if voter.weight > 0]

    @property
    def blend_space(self) -> Literal["probs", "logits"]:
        """What of its networks is mixed."""
        return "logits" if self.config.get("blend.space") == "logits" else "probs"

    def probs_on(self, split: Split) -> FloatArray:
        """Its probabilities for other faces than the stored ones, [samples, classes of its scores]."""
        mixed = np.zeros((split.n_rows, len(self.scores.classes)))
        for voter in self.voters:
            network, spec = load_network(voter.path)
            logits = predict_logits(network, split.images, spec)[:, columns_for(spec.classes, self.scores.classes)]
            mixed += voter.weight * (logits if self.blend_space == "logits" else softmax(logits))
        return softmax(mixed) if self.blend_space == "logits" else mixed


def trial_candidates(folder: SearchFolder, records: Sequence[TrialRecord]) -> list[Candidate]:
    """Trials whose scores and weights are there and whole, by number."""
    found = []
    for record in sorted(records, key=lambda r: r.number):
        candidate = load_candidate(
            record.trial_id, folder.trial_dir(record.trial_id), record.config, is_complete=record.end == "completed"
        )
        if candidate is not None and record.end not in ("diverged", "failed"):
            found.append(candidate)
    return found


def load_candidate(key: str, folder: Path, config: dict[str, Any], *, is_complete: bool) -> Candidate | None:
    """A candidate from its folder, or None where it left too little to vote."""
    try:
        scores = load_scores(folder / SCORES_FILE)
    except DataError:
        return None
    candidate = Candidate(key, folder, config, scores, is_complete)
    if not all(voter.path.is_file() for voter in candidate.voters):
        return None
    return candidate


def stack_probs(candidates: Sequence[Candidate]) -> FloatArray:
    """Stored probabilities, [candidates, samples, classes].

    Raises:
        EnsembleError: there is none, or they were scored on different faces.
    """
    if not candidates:
        raise EnsembleError("an ensemble must have a candidate with scores and weights, got none")
    first = candidates[0].scores
    for other in candidates[1:]:
        if other.scores.sample_ids != first.sample_ids or other.scores.classes != first.classes:
            raise EnsembleError(f"candidates must be scored on the same faces, got others: {other.folder}")
    return np.stack([candidate.scores.probs for candidate in candidates])
