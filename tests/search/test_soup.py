"""Soups: whose weights may be averaged, which are, and what a soup leaves."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from search.candidates import Candidate, late_epochs, load_candidate
from search.folder import SearchFolder
from search.soup import SOUP_FILE, beginning, clear_soups, cook, group_alike, make_soups
from spaces.config import TrialConfig
from trainables.checkpoint import load_network, load_weights, save_network
from trainables.data.table import FaceTable
from trainables.epochs import EPOCHS_FILE, load_epoch_scores
from trainables.metrics import macro_f1
from trainables.models.backbones import build_network
from trainables.models.inputs import predict_logits
from trainables.run import TrialOrder, TrialRun
from trainables.scores import softmax
from trainables.trainer import WEIGHTS_FILE

SMALL = {
    "model.backbone": "test_efficientnet",
    "model.image_px": 32,
    "train.batch_size": 16,
    "train.epochs": 3,
    "train.snapshots": 2,
    "optimiser.lr": 1e-2,
    "model.shift": 0.07,
}


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A backbone's weights, for several networks to begin with."""
    from safetensors.torch import save_file

    path = tmp_path_factory.mktemp("weights") / "backbone.safetensors"
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        save_file(build_network("test_efficientnet", n_classes=2).encoder.backbone.net.state_dict(), path)
    return str(path)


@pytest.fixture(scope="module")
def train(face_table: FaceTable, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., list[Candidate]]:
    """Train a small network; it and its late epochs as candidates."""
    folder = tmp_path_factory.mktemp("trials")

    def train(key: str, **settings: Any) -> list[Candidate]:
        dotted = {name.replace("__", "."): value for name, value in settings.items()}
        config = dict(TrialConfig.from_flat({**SMALL, **dotted}).to_flat())
        run = TrialRun(TrialOrder(key, config, str(face_table.path), str(folder / key)))
        while not run.step()["end"]:
            pass
        candidate = load_candidate(key, folder / key, config, is_complete=True)
        assert candidate is not None
        return [candidate, *late_epochs(candidate)]

    return train


@pytest.fixture(scope="module")
def alike(train: Callable[..., list[Candidate]], weights: str) -> list[Candidate]:
    """Two networks that began with the same weights, the late epochs of one, and one that is nearly the best of all."""
    candidates = [
        *train("t0001", model__weights=weights, train__seed=1),
        train("t0002", model__weights=weights, train__seed=2, optimiser__lr=5e-3)[0],
    ]
    best = max(candidates, key=lambda one: macro_f1(one.scores.labels, one.scores.logits.argmax(axis=1), 6))
    return [*candidates, nearly(best, "t0006")]


def nearly(candidate: Candidate, key: str) -> Candidate:
    """A candidate whose heads differ from another's by so little that both say the same."""
    network, spec = load_network(candidate.voters[0].path)
    with torch.no_grad():
        network.heads.linear.weight += 1e-6
    folder = candidate.folder.with_name(key)
    save_network(folder / WEIGHTS_FILE, network.state_dict(), spec)
    return replace(candidate, key=key, folder=folder, weights_file=WEIGHTS_FILE)


def flat(**settings: Any) -> dict[str, Any]:
    dotted = {name.replace("__", "."): value for name, value in settings.items()}
    return dict(TrialConfig.from_flat({**SMALL, **dotted}, alone=True).to_flat())


@pytest.mark.parametrize(
    ("one", "other", "is_same"),
    [
        ({"model__weights": "w.st"}, {"model__weights": "w.st", "train__seed": 7}, True),
        ({"model__weights": "w.st"}, {"model__weights": "v.st"}, False),
        ({"model__weights": "none"}, {"model__weights": "none", "train__seed": 7}, False),
        ({"model__weights": "none"}, {"model__weights": "none", "optimiser__lr": 1e-5}, True),
        ({"model__start": "m.st"}, {"model__start": "m.st", "model__weights": "hub"}, True),
        ({"model__start": "m.st"}, {"model__weights": "m.st"}, False),
        (
            {"model__weights": "w.st", "hand__backbone": "x", "hand__weights": "none"},
            {"model__weights": "w.st", "hand__backbone": "x", "hand__weights": "none", "train__seed": 7},
            False,
        ),
    ],
    ids=["file", "other file", "other draw", "same draw", "start", "start or weights", "a part that is drawn"],
)
def test_networks_begin_alike_with_the_same_weights(one: dict[str, Any], other: dict[str, Any], is_same: bool) -> None:
    assert (beginning(flat(**one)) == beginning(flat(**other))) == is_same


@pytest.mark.slow
def test_candidates_that_began_alike_are_grouped_the_best_first(
    train: Callable[..., list[Candidate]], alike: list[Candidate]
) -> None:
    drawn = [*train("t0003", model__weights="none"), *train("t0004", model__weights="none", train__seed=5)[:1]]
    wider = train("t0005", model__weights=alike[0].config["model.weights"], model__head_width=8)[:1]
    blended = [replace(alike[0], config={**alike[0].config, "blend.partner": "head"})]

    groups = group_alike([*alike, *drawn, *wider, *blended])

    assert [sorted(candidate.key for candidate in group) for group in groups] == [
        sorted(candidate.key for candidate in alike),
        sorted(candidate.key for candidate in drawn[:3]),
    ]
    for group in groups:
        scores = [macro_f1(c.scores.labels, c.scores.logits.argmax(axis=1), 6) for c in group]
        assert scores == sorted(scores, reverse=True)


@pytest.mark.slow
def test_ingredient_stays_where_macro_f1_does_not_fall(alike: list[Candidate], face_table: FaceTable) -> None:
    (group,) = group_alike(alike)
    n_steps = 0

    def step() -> None:
        nonlocal n_steps
        n_steps += 1

    soup = cook(group, face_table, seed=0, step=step)

    best = 0.0
    for taste in soup.tastes:
        assert taste.is_kept == (taste.macro_f1 >= best)
        best = taste.macro_f1 if taste.is_kept else best
    assert n_steps == len(soup.tastes) == 5
    assert soup.ingredients[0] is group[0]


@pytest.mark.slow
def test_soup_is_a_candidate_at_the_cost_of_one_network(
    alike: list[Candidate], face_table: FaceTable, tmp_path: Path
) -> None:
    shares: list[float] = []

    (soup,) = make_soups(SearchFolder(tmp_path), face_table, alike, seed=0, progress=shares.append)

    assert (soup.key, soup.folder, soup.is_complete) == ("s000", tmp_path / "ensemble" / "s000", True)
    assert shares == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])
    network, spec = load_network(soup.folder / WEIGHTS_FILE)
    assert (spec.shift_px, spec.mirror) == (2, True)
    probs = softmax(predict_logits(network, face_table.split("valid").images, spec))
    np.testing.assert_allclose(soup.scores.probs, probs, atol=1e-4)


@pytest.mark.slow
def test_soup_says_what_is_in_it_and_keeps_all_that_was_tried(
    alike: list[Candidate], face_table: FaceTable, tmp_path: Path
) -> None:
    (soup,) = make_soups(SearchFolder(tmp_path), face_table, alike, seed=0, progress=lambda _: None)

    document = json.loads((soup.folder / SOUP_FILE).read_text())
    tried, answers = document["tried"], load_epoch_scores(soup.folder / EPOCHS_FILE)
    kept = [number for number, one in enumerate(tried, start=1) if one["kept"]]
    assert document["ingredients"] == [tried[number - 1]["candidate"] for number in kept]
    assert len(kept) > 1
    assert (answers.epochs.tolist(), answers.best_epoch) == ([1, 2, 3, 4, 5], kept[-1])
    labels = face_table.split("valid").expression
    for one, logits in zip(tried, answers.logits, strict=True):
        assert macro_f1(labels, logits.argmax(axis=1), 6) == one["macro_f1"]
    by_key = {candidate.key: load_weights(candidate.voters[0].path) for candidate in alike}
    expected = sum(by_key[key]["heads.linear.weight"] for key in document["ingredients"]) / len(kept)
    torch.testing.assert_close(load_weights(soup.folder / WEIGHTS_FILE)["heads.linear.weight"], expected)


@pytest.mark.slow
def test_nothing_is_made_where_no_other_candidate_helps(
    alike: list[Candidate], face_table: FaceTable, tmp_path: Path
) -> None:
    network, spec = load_network(alike[0].voters[0].path)
    broken = {name: torch.full_like(tensor, 100) for name, tensor in network.state_dict().items()}
    save_network(tmp_path / "broken" / WEIGHTS_FILE, broken, spec)
    worst = replace(alike[0].scores, logits=np.zeros_like(alike[0].scores.logits))
    useless = replace(alike[0], key="t0009", folder=tmp_path / "broken", scores=worst)

    soups = make_soups(SearchFolder(tmp_path), face_table, [alike[0], useless], seed=0, progress=lambda _: None)

    assert soups == []
    assert not (tmp_path / "ensemble").exists()


@pytest.mark.slow
def test_soup_of_a_later_job_has_a_new_number_until_the_earlier_is_cleared(
    alike: list[Candidate], face_table: FaceTable, tmp_path: Path
) -> None:
    folder = SearchFolder(tmp_path)
    first, second = (make_soups(folder, face_table, alike, seed=0, progress=lambda _: None)[0] for _ in range(2))

    clear_soups(folder, keep={second.key})

    assert (first.key, second.key) == ("s000", "s001")
    assert [path.name for path in folder.ensemble_dir.iterdir()] == ["s001"]
    np.testing.assert_array_equal(first.scores.logits, second.scores.logits)


def test_no_soup_is_made_of_no_candidates(face_table: FaceTable, tmp_path: Path) -> None:
    assert make_soups(SearchFolder(tmp_path), face_table, [], seed=0, progress=lambda _: None) == []
