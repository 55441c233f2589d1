"""Who may vote: trials, bags and late epochs with their stored scores and the networks behind them."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from search.folder import SearchFolder, TrialRecord
from spaces.config import TrialConfig
from spaces.errors import ConfigError, DataError, EnsembleError
from trainables.checkpoint import load_network
from trainables.data.label_orders import columns_for
from trainables.epochs import EPOCHS_FILE, load_epoch_scores
from trainables.kept_epochs import SNAPSHOTS_DIR
from trainables.models.inputs import predict_logits
from trainables.scores import SCORES_FILE, Scores, load_scores, softmax
from trainables.trainer import HEAD_FILE, WEIGHTS_FILE

FloatArray = npt.NDArray[np.float64]

Looks = Literal["all", "one"]
"""At each face as a network was saved to look (mirrored, moved), or at the face as it is alone."""

ONE_LOOK: dict[str, Any] = {"mirror": False, "shift_px": 0}
"""Fields of a network's spec."""


@dataclass(frozen=True)
class Voter:
    """One network of a candidate: a file and its share of the candidate's vote."""

    path: Path
    weight: float
    role: Literal["fine_tuned", "partner"]


@dataclass(frozen=True, eq=False)
class Candidate:
    """A trial, a bag, one of their late epochs or a soup, that can be a member.

    Attributes:
        key: t0007 or b003; with a late epoch t0007e18; a soup's s000.
        folder: what it left.
        config: flat.
        scores: of its best epoch on the valid split, the partner blended in.
        is_complete: whether it was trained to its end; one cut short has no place in an unweighted average.
        variants: probabilities [variants, samples, classes] among which its training chose by these very faces, its own
            among them; None where they were not kept.
        weights_file: of its network, in the folder.
    """

    key: str
    folder: Path
    config: dict[str, Any]
    scores: Scores
    is_complete: bool
    variants: FloatArray | None = None
    weights_file: str = WEIGHTS_FILE

    @property
    def is_trial(self) -> bool:
        """Whether it is a trial of the search, as it was."""
        return self.key.startswith("t") and self.weights_file == WEIGHTS_FILE

    @property
    def is_bag(self) -> bool:
        """Whether it was trained by the final job, or comes from what was."""
        return self.key.startswith("b")

    @property
    def voters(self) -> list[Voter]:
        """Its networks: the fine-tuned one, and the partner's where it blends."""
        partner, weight = str(self.config["blend.partner"]), float(self.config["blend.weight"])
        own = self.folder / self.weights_file
        if partner == "none":
            return [Voter(own, 1.0, "fine_tuned")]
        path = self.folder / HEAD_FILE if partner == "head" else Path(partner).expanduser()
        voters = [Voter(own, 1.0 - weight, "fine_tuned"), Voter(path, weight, "partner")]
        return [voter for voter in voters if voter.weight > 0]

    @property
    def blend_space(self) -> Literal["probs", "logits"]:
        """What of its networks is mixed."""
        return "logits" if self.config.get("blend.space") == "logits" else "probs"

    def probs_on(self, images: npt.NDArray[np.uint8], *, looks: Looks = "all") -> FloatArray:
        """Its probabilities for other faces than the stored ones.

        Args:
            images: [samples, height, width, channels].
            looks: how it looks at each.

        Returns:
            [samples, classes of its scores].
        """
        mixed = np.zeros((len(images), len(self.scores.classes)))
        for voter in self.voters:
            network, spec = load_network(voter.path)
            spec = replace(spec, **ONE_LOOK) if looks == "one" else spec
            logits = predict_logits(network, images, spec)[:, columns_for(spec.classes, self.scores.classes)]
            mixed += voter.weight * (logits if self.blend_space == "logits" else softmax(logits))
        return softmax(mixed) if self.blend_space == "logits" else mixed


def trial_candidates(folder: SearchFolder, records: Sequence[TrialRecord]) -> list[Candidate]:
    """Trials whose scores and weights are there and whole, by number, each followed by its late epochs."""
    found: list[Candidate] = []
    for record in sorted(records, key=lambda r: r.number):
        candidate = load_candidate(
            record.trial_id, folder.trial_dir(record.trial_id), record.config, is_complete=record.end == "completed"
        )
        if candidate is not None and record.end not in ("diverged", "failed"):
            found += [candidate, *late_epochs(candidate)]
    return found


def unreadable_trials(folder: SearchFolder, records: Sequence[TrialRecord], found: Sequence[Candidate]) -> list[str]:
    """A sentence for each trial that has weights but no scores or settings that could be read."""
    keys = {candidate.key for candidate in found}
    return [
        f"{record.trial_id} left out: its scores or settings can't be read"
        for record in records
        if record.trial_id not in keys
        and record.end not in ("diverged", "failed")
        and (folder.trial_dir(record.trial_id) / WEIGHTS_FILE).is_file()
    ]


def load_candidate(key: str, folder: Path, config: dict[str, Any], *, is_complete: bool) -> Candidate | None:
    """A candidate from its folder, or None where it left too little to vote."""
    try:
        scores = load_scores(folder / SCORES_FILE)
        config = TrialConfig.from_flat(config).to_flat()
    except (ConfigError, DataError):
        return None
    candidate = Candidate(key, folder, config, scores, is_complete, variants=_variants(folder, scores))
    return candidate if _has_weights(candidate) else None


def late_epochs(candidate: Candidate) -> list[Candidate]:
    """The late epochs that a trial or bag kept beside its best one, each a candidate of its own."""
    found = []
    for file in sorted((candidate.folder / SNAPSHOTS_DIR).glob("e*.safetensors")):
        try:
            scores = load_scores(file.with_suffix(".arrow"))
        except DataError:
            continue
        key = f"{candidate.key}{'e' + file.stem.lstrip('e0')}"
        weights_file = f"{SNAPSHOTS_DIR}/{file.name}"
        found.append(replace(candidate, key=key, scores=scores, variants=None, weights_file=weights_file))
    return found


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


def _has_weights(candidate: Candidate) -> bool:
    return all(voter.path.is_file() for voter in candidate.voters)


def _variants(folder: Path, scores: Scores) -> FloatArray | None:
    """What the best epochs would have left as scores, had they been taken: each with what the last look changed.

    Where a trial looks again at moved faces when it ends, it does so with its best epoch alone; what that changed of
    the logits is taken to be the same for the others.
    """
    try:
        kept = load_epoch_scores(folder / EPOCHS_FILE)
    except DataError:
        return None
    place = int(np.flatnonzero(kept.epochs == kept.best_epoch)[0])
    if kept.logits.shape[1:] != scores.logits.shape:
        return None
    logits = scores.logits.astype(np.float64) + (kept.logits - kept.logits[place])
    return softmax(logits) if np.isfinite(logits).all() else None
