"""Soups: the weights of networks that began alike, averaged to one network at the cost of one.

Source: Wortsman et al., Model soups, ICML 2022 (the greedy soup).
"""

import json
import shutil
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from search.candidates import Candidate, load_candidate
from search.folder import SearchFolder
from trainables.checkpoint import NetworkSpec, load_network, load_spec, load_weights, save_network, state_on_cpu
from trainables.data.table import FaceTable, Split
from trainables.epochs import EPOCHS_FILE, EpochScores, save_epoch_scores
from trainables.metrics import macro_f1
from trainables.models.architectures.network import ExpressionNetwork
from trainables.models.inputs import decided_logits, predict_outputs
from trainables.models.weight_mean import WeightMean, refresh_batch_norm
from trainables.outputs import new_folder, write_text
from trainables.scores import SCORES_FILE, save_scores, split_scores
from trainables.scoring import extras_of
from trainables.trainer import WEIGHTS_FILE

SOUP_FILE = "soup.json"
MOST_TRIED = 16
"""Of a group, the best: each costs a look at the valid split."""
N_BATCHES = 16
"""Of training faces, for batch norm's statistics."""
BATCH_SIZE = 128

Progress = Callable[[float], None]
"""Is told the share done."""


class Taste(NamedTuple):
    """One soup that was tried: the candidate that came into it, its macro-F1 on valid, whether the candidate stayed."""

    candidate: Candidate
    macro_f1: float
    is_kept: bool
    logits: npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Soup:
    """What came of one group.

    Attributes:
        spec: of the first ingredient.
        state: the weights.
        tastes: in the order in which they were tried; the first is the best candidate alone.
    """

    spec: NetworkSpec
    state: dict[str, torch.Tensor]
    tastes: list[Taste]

    @property
    def ingredients(self) -> list[Candidate]:
        """The candidates that stayed."""
        return [taste.candidate for taste in self.tastes if taste.is_kept]


def make_soups(
    folder: SearchFolder, table: FaceTable, candidates: Sequence[Candidate], *, seed: int, progress: Progress
) -> list[Candidate]:
    """A greedy soup of each group of candidates that began alike; a group without one that helps gives none.

    In order of their macro-F1 on valid, each candidate's weights join those kept so far, and stay where macro-F1 does
    not fall; all are tried with a look at faces that were not moved. A soup looks at faces as its first ingredient
    does. It computes on a GPU where there is one.

    Args:
        folder: of the search; soups come into folders of their own beside the bags.
        table: its face table.
        candidates: scored on its valid split. Those that blend with a partner are left out.
        seed: of the training faces by which batch norm's statistics are measured anew.
        progress: is told the share done.

    Returns:
        Each leaves weights, scores, what was tried as the answers of its epochs (number i is the i-th soup tried), and
        soup.json.
    """
    groups = group_alike(candidates)
    n_all, tried, ids = sum(len(group) for group in groups), count(1), _free_ids(folder)
    found = []
    for group in groups:
        soup = cook(group, table, seed=seed, step=lambda: progress(next(tried) / n_all))
        if len(soup.ingredients) > 1:
            found.append(_serve(soup, folder.ensemble_dir / next(ids), table, seed=seed))
    return found


def group_alike(candidates: Sequence[Candidate]) -> list[list[Candidate]]:
    """Groups of two candidates or more whose weights may be averaged, in each the best first.

    Those of a group have one backbone, one design, see faces in one way, and began with the same weights: of a file, of
    a hub, of a model that was trained before, or drawn with the same seed.
    """
    groups: dict[tuple[NetworkSpec, tuple[str, ...]], list[Candidate]] = {}
    for candidate in candidates:
        if candidate.config["blend.partner"] == "none":
            (voter,) = candidate.voters
            body = replace(load_spec(voter.path), mirror=False, shift_px=0, hand_rule=None)
            groups.setdefault((body, beginning(candidate.config)), []).append(candidate)
    ranked = [sorted(group, key=lambda one: -_stored_macro_f1(one))[:MOST_TRIED] for group in groups.values()]
    return [group for group in ranked if len(group) > 1]


def beginning(config: dict[str, Any]) -> tuple[str, ...]:
    """What tells the weights that a network began with; where some of its parts were drawn, the seed too.

    New heads are drawn in any case, and are not told apart by that: on the same features they come out alike.

    Args:
        config: flat.
    """
    body = "model.weights" if config["model.start"] == "none" else "model.start"
    names = [body]
    names += ["branches.appearance_weights"] if config["model.encoder"] == "two_branch" else []
    names += ["hand.weights"] if config["hand.backbone"] != "none" else []
    parts = [f"{name} {config[name]}" for name in names]
    if any(config[name] == "none" for name in names):
        parts.append(f"train.seed {config['train.seed']}")
    return tuple(parts)


def cook(group: Sequence[Candidate], table: FaceTable, *, seed: int, step: Callable[[], None]) -> Soup:
    """The greedy soup of a group, which may be of its first candidate alone.

    Args:
        group: as of `group_alike`.
        table: its train and valid splits are used.
        seed: of the faces that batch norm sees.
        step: is called after each candidate.
    """
    valid, train = table.split("valid"), table.split("train")
    network, spec = _load_quick(group[0].voters[0].path)
    plain, batches = replace(spec, shift_px=0), _draw_batches(train, seed=seed)

    def taste(candidate: Candidate, *, best_f1: float) -> Taste:
        logits = decided_logits(predict_outputs(network, valid.images, plain), plain)
        score = macro_f1(valid.expression, logits.argmax(axis=1), logits.shape[1])
        return Taste(candidate, score, score >= best_f1, logits)

    tastes = [taste(group[0], best_f1=0.0)]
    best_f1, state = tastes[0].macro_f1, state_on_cpu(network)
    mean = WeightMean(state)
    step()
    for candidate in group[1:]:
        tried = mean.with_one(load_weights(candidate.voters[0].path))
        network.load_state_dict(tried.tensors())
        refresh_batch_norm(network, plain, train.images, modules=tried.drifted, batches=batches)
        tastes.append(taste(candidate, best_f1=best_f1))
        if tastes[-1].is_kept:
            mean, best_f1, state = tried, tastes[-1].macro_f1, state_on_cpu(network)
        step()
    return Soup(spec, state, tastes)


def clear_soups(folder: SearchFolder, *, keep: Collection[str]) -> None:
    """Forget the soups of earlier final jobs.

    Args:
        folder: of the search.
        keep: their names, such as `s000`, that stay.
    """
    for old in folder.ensemble_dir.glob("s[0-9]*"):
        if old.name not in keep:
            shutil.rmtree(old, ignore_errors=True)


def _load_quick(path: Path) -> tuple[ExpressionNetwork, NetworkSpec]:
    """A saved network where it computes fastest."""
    network, spec = load_network(path)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    return network, spec


def _draw_batches(train: Split, *, seed: int) -> list[npt.NDArray[np.int64]]:
    """Rows of labelled training faces, each batch ascending."""
    rows = np.random.default_rng([seed, 0x50F9]).permutation(np.flatnonzero(train.expression >= 0))
    rows = rows[: N_BATCHES * BATCH_SIZE]
    n_batches = max(1, min(-(-len(rows) // BATCH_SIZE), len(rows) // 2))
    return [np.sort(batch) for batch in np.array_split(rows, n_batches)]


def _serve(soup: Soup, out: Path, table: FaceTable, *, seed: int) -> Candidate:
    """Write a soup with all that a candidate leaves."""
    valid, classes = table.split("valid"), tuple(table.info.classes)
    first, tastes = soup.ingredients[0], soup.tastes
    kept = [number for number, taste in enumerate(tastes, start=1) if taste.is_kept]
    answers = np.stack([taste.logits for taste in tastes])
    document = {
        "backbone": soup.spec.backbone,
        "ingredients": [candidate.key for candidate in soup.ingredients],
        "tried": [{"candidate": t.candidate.key, "macro_f1": t.macro_f1, "kept": t.is_kept} for t in tastes],
        "seed": seed,
    }
    with new_folder(out) as staging:
        save_network(staging / WEIGHTS_FILE, soup.state, soup.spec)
        network, spec = _load_quick(staging / WEIGHTS_FILE)
        outputs = predict_outputs(network, valid.images, spec)
        scores = split_scores(valid, classes, decided_logits(outputs, spec), extras=extras_of(outputs))
        save_scores(staging / SCORES_FILE, scores)
        numbers = np.arange(1, len(tastes) + 1)
        save_epoch_scores(staging / EPOCHS_FILE, EpochScores(numbers, best_epoch=kept[-1], logits=answers))
        write_text(staging / SOUP_FILE, json.dumps(document, indent=2) + "\n")
    is_complete = all(candidate.is_complete for candidate in soup.ingredients)
    candidate = load_candidate(out.name, out, first.config, is_complete=is_complete)
    assert candidate is not None, "it was written just now"
    return candidate


def _free_ids(folder: SearchFolder) -> Iterator[str]:
    """Names that no soup has: those of an earlier final job stay until a new ensemble has taken the old one's place."""
    for number in count():
        if not (folder.ensemble_dir / f"s{number:03d}").exists():
            yield f"s{number:03d}"


def _stored_macro_f1(candidate: Candidate) -> float:
    scores = candidate.scores
    return macro_f1(scores.labels, scores.logits.argmax(axis=1), len(scores.classes))
