"""Who may vote: what trials and bags left behind."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from search.candidates import Candidate, late_epochs, load_candidate, stack_probs, trial_candidates
from search.ends import TrialEnd
from search.folder import SearchFolder, TrialRecord
from spaces.config import TrialConfig
from spaces.errors import EnsembleError
from trainables.checkpoint import load_network
from trainables.epochs import EPOCHS_FILE, EpochScores, save_epoch_scores
from trainables.kept_epochs import SNAPSHOTS_DIR
from trainables.models.inputs import predict_logits
from trainables.scores import SCORES_FILE, Scores, save_scores, softmax
from trainables.trainer import HEAD_FILE, WEIGHTS_FILE

CLASSES = ("anger", "fear", "happiness")


def scores(seed: int = 0, *, n: int = 12, classes: tuple[str, ...] = CLASSES) -> Scores:
    logits = np.random.default_rng(seed).normal(size=(n, len(classes))).astype(np.float32)
    ids, labels = tuple(str(row) for row in range(n)), (np.arange(n) % len(classes)).astype(np.int8)
    return Scores(ids, (None,) * n, labels, logits, classes)


def config(**settings: Any) -> dict[str, Any]:
    return dict(TrialConfig().with_settings(settings).to_flat())


def candidate(key: str = "t0000", *, seed: int = 0, folder: Path = Path("gone"), **settings: Any) -> Candidate:
    return Candidate(key, folder, config(**settings), scores(seed), is_complete=True)


def leave(folder: Path, *, seed: int = 0) -> None:
    """What a trial that ended well leaves: scores and weights."""
    save_scores(folder / SCORES_FILE, scores(seed))
    (folder / WEIGHTS_FILE).touch()


@pytest.mark.parametrize(
    ("key", "file", "is_trial", "is_bag"),
    [
        ("t0003", WEIGHTS_FILE, True, False),
        ("t0003e7", "snapshots/e0007.safetensors", False, False),
        ("b001", WEIGHTS_FILE, False, True),
        ("b001e7", "snapshots/e0007.safetensors", False, True),
        ("s000", WEIGHTS_FILE, False, False),
    ],
    ids=["trial", "late epoch of a trial", "bag", "late epoch of a bag", "soup"],
)
def test_candidate_says_what_it_is(key: str, file: str, is_trial: bool, is_bag: bool) -> None:
    found = replace(candidate(key), weights_file=file)

    assert (found.is_trial, found.is_bag) == (is_trial, is_bag)


@pytest.mark.parametrize(
    ("settings", "weights"),
    [
        ({"blend.partner": "none", "blend.weight": 0.5}, {"weights.safetensors": 1.0}),
        (
            {"blend.partner": "head", "blend.weight": 0.3, "train.head_epochs": 1},
            {"weights.safetensors": 0.7, "head.safetensors": 0.3},
        ),
        ({"blend.partner": "/models/other.safetensors", "blend.weight": 1.0}, {"other.safetensors": 1.0}),
    ],
    ids=["alone", "head", "partner alone"],
)
def test_voters_have_their_share_of_the_blend(settings: dict[str, Any], weights: dict[str, float]) -> None:
    voters = candidate(**settings).voters

    assert {voter.path.name: voter.weight for voter in voters} == pytest.approx(weights)


def test_candidate_is_loaded_where_scores_and_all_weights_are_there(tmp_path: Path) -> None:
    blended = config(**{"blend.partner": "head", "blend.weight": 0.3, "train.head_epochs": 1})
    assert load_candidate("t0000", tmp_path, blended, is_complete=True) is None

    save_scores(tmp_path / SCORES_FILE, scores())
    assert load_candidate("t0000", tmp_path, blended, is_complete=True) is None

    (tmp_path / WEIGHTS_FILE).touch()
    assert load_candidate("t0000", tmp_path, blended, is_complete=True) is None

    (tmp_path / HEAD_FILE).touch()
    found = load_candidate("t0000", tmp_path, blended, is_complete=False)
    assert found is not None
    assert (found.key, found.is_complete, found.variants) == ("t0000", False, None)
    assert found.scores.logits.tolist() == scores().logits.tolist()


def test_candidate_is_not_loaded_from_broken_scores(tmp_path: Path) -> None:
    leave(tmp_path)
    (tmp_path / SCORES_FILE).write_bytes(b"no Arrow file")

    assert load_candidate("t0000", tmp_path, config(), is_complete=True) is None


def test_candidate_knows_what_its_other_epochs_would_have_said(tmp_path: Path) -> None:
    leave(tmp_path)
    logits = np.stack([scores(5).logits, scores().logits, scores(6).logits])
    save_epoch_scores(tmp_path / EPOCHS_FILE, EpochScores(np.array([2, 4, 7]), 4, logits))

    found = load_candidate("t0000", tmp_path, config(), is_complete=True)

    assert found is not None and found.variants is not None
    assert found.variants[1] == pytest.approx(found.scores.probs, abs=2e-3)  # they were stored in half precision
    assert found.variants[0] == pytest.approx(softmax(scores(5).logits), abs=2e-3)


def test_last_look_changes_what_every_epoch_would_have_said(tmp_path: Path) -> None:
    before, other, looked_again = scores(0).logits, scores(5).logits, scores(0).logits + scores(9).logits
    save_scores(tmp_path / SCORES_FILE, replace(scores(), logits=looked_again))
    (tmp_path / WEIGHTS_FILE).touch()
    save_epoch_scores(tmp_path / EPOCHS_FILE, EpochScores(np.array([1, 2]), 2, np.stack([other, before])))

    found = load_candidate("t0000", tmp_path, config(), is_complete=True)

    assert found is not None and found.variants is not None
    assert found.variants[1] == pytest.approx(softmax(looked_again), abs=2e-3)
    assert found.variants[0] == pytest.approx(softmax(other + scores(9).logits), abs=4e-3)


def test_epochs_that_are_broken_or_of_other_faces_are_not_taken_into_account(tmp_path: Path) -> None:
    for name, logits in (("other", scores(n=5).logits), ("broken", None)):
        leave(tmp_path / name)
        if logits is None:
            (tmp_path / name / EPOCHS_FILE).write_bytes(b"no Arrow file")
        else:
            save_epoch_scores(tmp_path / name / EPOCHS_FILE, EpochScores(np.array([1]), 1, logits[None]))

        found = load_candidate("t0000", tmp_path / name, config(), is_complete=True)

        assert found is not None and found.variants is None


def test_late_epochs_are_candidates_of_their_own(tmp_path: Path) -> None:
    leave(tmp_path)
    for epoch, seed in ((9, 1), (10, 2), (11, 3)):
        (tmp_path / SNAPSHOTS_DIR).mkdir(exist_ok=True)
        (tmp_path / SNAPSHOTS_DIR / f"e{epoch:04}.safetensors").touch()
        if epoch != 11:  # killed between the two writes
            save_scores(tmp_path / SNAPSHOTS_DIR / f"e{epoch:04}.arrow", scores(seed))
    best = load_candidate("b003", tmp_path, config(), is_complete=True)
    assert best is not None

    found = late_epochs(best)

    assert [one.key for one in found] == ["b003e9", "b003e10"]
    assert [one.scores.logits.tolist() for one in found] == [scores(seed).logits.tolist() for seed in (1, 2)]
    assert [one.voters[0].path for one in found] == [
        tmp_path / SNAPSHOTS_DIR / f"e00{n}.safetensors" for n in ("09", "10")
    ]
    assert all(one.is_bag and one.variants is None and one.is_complete for one in found)


def test_trials_that_left_something_are_candidates_each_before_its_late_epochs(tmp_path: Path) -> None:
    folder = SearchFolder(tmp_path)
    ends: list[TrialEnd] = ["stopped", "completed", "diverged", "failed", "completed"]
    records = [TrialRecord(f"t{n:04}", n, values={}, config=config(), end=end) for n, end in enumerate(ends)]
    for record in records[:4]:
        leave(folder.trial_dir(record.trial_id), seed=record.number)
    snapshots = folder.trial_dir("t0000") / SNAPSHOTS_DIR
    snapshots.mkdir()
    (snapshots / "e0003.safetensors").touch()
    save_scores(snapshots / "e0003.arrow", scores(8))

    found = trial_candidates(folder, records[::-1])

    assert [one.key for one in found] == ["t0000", "t0000e3", "t0001"]
    assert [one.is_complete for one in found] == [False, False, True]


def test_probabilities_of_candidates_are_stacked() -> None:
    stacked = stack_probs([candidate(seed=0), candidate("t0001", seed=1)])

    assert stacked.tolist() == [scores(0).probs.tolist(), scores(1).probs.tolist()]


def test_candidates_are_refused_when_they_saw_other_faces() -> None:
    other = candidate("t0009", folder=Path("trials/t0009"))
    other = replace(other, scores=replace(other.scores, sample_ids=other.scores.sample_ids[::-1]))

    with pytest.raises(EnsembleError, match=r"scored on the same faces, got others: trials/t0009"):
        stack_probs([candidate(), other])


def test_no_candidate_at_all_is_refused() -> None:
    with pytest.raises(EnsembleError, match="an ensemble must have a candidate with scores and weights, got none"):
        stack_probs([])


def test_candidate_answers_with_all_its_looks_or_with_one(network_files: list[Path]) -> None:
    images = np.random.default_rng(0).integers(0, 256, (5, 40, 40, 1), dtype=np.uint8)
    mirrored = replace(candidate(folder=network_files[1].parent), weights_file=network_files[1].name)
    network, spec = load_network(network_files[1])

    often, once = mirrored.probs_on(images), mirrored.probs_on(images, looks="one")

    own_order = [spec.classes.index(name) for name in CLASSES]
    alone = replace(spec, mirror=False, shift_px=0)
    assert often == pytest.approx(softmax(predict_logits(network, images, spec)[:, own_order]))
    assert once == pytest.approx(softmax(predict_logits(network, images, alone)[:, own_order]))
    assert abs(often - once).max() > 1e-3


@pytest.mark.parametrize("space", ["probs", "logits"])
def test_candidate_mixes_its_networks_as_its_trial_did(network_files: list[Path], space: str) -> None:
    images = np.random.default_rng(0).integers(0, 256, (5, 40, 40, 1), dtype=np.uint8)
    blend = {"blend.partner": str(network_files[2]), "blend.weight": 0.4, "blend.space": space}
    blended = replace(candidate(folder=network_files[0].parent, **blend), weights_file=network_files[0].name)

    found = blended.probs_on(images)

    own, partner = (predict_logits(network, images, spec) for network, spec in map(load_network, network_files[::2]))
    mixed = 0.6 * own + 0.4 * partner if space == "logits" else 0.6 * softmax(own) + 0.4 * softmax(partner)
    assert found == pytest.approx(softmax(mixed) if space == "logits" else mixed, abs=1e-6)
