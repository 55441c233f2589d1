"""What networks say of the training faces that they have not seen, one by one and together."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from spaces.config import TrialConfig
from spaces.errors import DataError
from trainables.checkpoint import load_network
from trainables.data.table import FaceTable
from trainables.models.inputs import predict_logits
from trainables.out_of_bag import OUT_OF_BAG_FILE, UnseenFaces, out_of_bag
from trainables.preparation import choose_items
from trainables.scores import Scores, load_scores, save_scores, softmax
from trainables.trainer import HEAD_FILE, WEIGHTS_FILE, Trainer

MakeConfig = Callable[..., TrialConfig]


def run_bag(table: FaceTable, config: TrialConfig, folder: Path, **given: Any) -> Trainer:
    """A bag at its end, with what it left."""
    trainer = Trainer(config, table, asks_unseen=True, **given)
    while not trainer.is_done:
        trainer.run_epoch()
    trainer.save_outputs(folder)
    trainer.save_out_of_bag(folder)
    return trainer


def test_unseen_faces_are_the_labelled_ones_that_are_in_no_batch(
    make_table: Callable[..., FaceTable], make_config: MakeConfig, tmp_path: Path
) -> None:
    table = make_table(train=[0, 1, 2, -1] * 12)

    trainer = run_bag(table, make_config({"data.subsample_ratio": 0.5, "train.epochs": 1}), tmp_path)

    train = table.split("train")
    left_out = sorted(set(np.flatnonzero(train.expression >= 0)) - set(trainer._items.rows.tolist()))
    stored = load_scores(tmp_path / OUT_OF_BAG_FILE)
    assert stored.sample_ids == tuple(train.sample_ids[row] for row in left_out)
    assert stored.labels.tolist() == train.expression[left_out].tolist()
    assert len(left_out) == 18


def test_out_of_bag_answer_is_the_best_networks_for_faces_as_they_are(
    toy_table: FaceTable, make_config: MakeConfig, tmp_path: Path
) -> None:
    config = make_config({"data.subsample_ratio": 0.5, "model.shift": 0.07, "train.epochs": 3})

    trainer = run_bag(toy_table, config, tmp_path)

    network, _ = load_network(tmp_path / WEIGHTS_FILE)
    rows = np.setdiff1d(np.arange(48), trainer._items.rows)
    expected = predict_logits(network, toy_table.split("train").images[rows], trainer.spec)
    np.testing.assert_allclose(load_scores(tmp_path / OUT_OF_BAG_FILE).logits, expected, atol=1e-5)


@pytest.mark.parametrize("space", ["probs", "logits"])
@pytest.mark.parametrize("partner", ["head", "file"])
def test_partner_has_its_say_out_of_bag(
    toy_table: FaceTable, make_config: MakeConfig, trained: Trainer, tmp_path: Path, partner: str, space: str
) -> None:
    trained.save_outputs(tmp_path / "other")
    path = tmp_path / "other" / WEIGHTS_FILE if partner == "file" else tmp_path / HEAD_FILE
    blend = {"blend.partner": str(path) if partner == "file" else "head", "blend.weight": 0.3, "blend.space": space}
    config = make_config({**blend, "data.subsample_ratio": 0.5, "train.epochs": 1, "train.head_epochs": 1})

    trainer = run_bag(toy_table, config, tmp_path)

    images = toy_table.split("train").images[np.setdiff1d(np.arange(48), trainer._items.rows)]
    own, other = (predict_logits(*_loaded(file, images)) for file in (tmp_path / WEIGHTS_FILE, path))
    mixed = 0.3 * other + 0.7 * own if space == "logits" else 0.3 * softmax(other) + 0.7 * softmax(own)
    expected = softmax(mixed) if space == "logits" else mixed
    np.testing.assert_allclose(load_scores(tmp_path / OUT_OF_BAG_FILE).probs, expected, atol=1e-5)


def _loaded(path: Path, images: Any) -> Any:
    network, spec = load_network(path)
    return network, images, spec


def test_nothing_is_written_where_a_bag_has_seen_every_face(
    toy_table: FaceTable, make_config: MakeConfig, tmp_path: Path
) -> None:
    run_bag(toy_table, make_config({"train.epochs": 1}), tmp_path)

    assert not (tmp_path / OUT_OF_BAG_FILE).exists()


def test_time_for_unseen_faces_is_kept_before_a_deadline(
    toy_table: FaceTable, make_config: MakeConfig, tmp_path: Path
) -> None:
    config = make_config({"train.epochs": 1000, "data.subsample_ratio": 0.5})
    deadline_s = time.time() + 3.0

    run_bag(toy_table, config, tmp_path, deadline_s=deadline_s)

    assert time.time() < deadline_s + 0.3
    assert (tmp_path / OUT_OF_BAG_FILE).exists()


def test_bag_ends_in_time_without_unseen_faces_when_they_would_take_too_long(
    toy_table: FaceTable, make_config: MakeConfig, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    config = make_config({"train.epochs": 1, "data.subsample_ratio": 0.5})
    trainer = Trainer(config, toy_table, asks_unseen=True, deadline_s=time.time() + 5.0)
    trainer.run_epoch()
    trainer._scoring_s = 60.0

    trainer.save_out_of_bag(tmp_path)

    assert "no time is left to score 24 faces out of bag" in caplog.text
    assert not (tmp_path / OUT_OF_BAG_FILE).exists()


def test_no_more_than_a_fifth_of_the_time_is_kept_for_unseen_faces(
    toy_table: FaceTable, make_config: MakeConfig
) -> None:
    config = make_config({"data.subsample_ratio": 0.5})
    split = toy_table.split("train")
    items = choose_items(split, config)

    unseen = UnseenFaces(split, items, config, n_valid=24, deadline_s=time.time() + 100.0)

    assert unseen.reserve_s(1.0) == 1.0  # 24 faces, as many as the valid split has
    assert unseen.reserve_s(50.0) == pytest.approx(20.0, abs=0.1)
    assert unseen.is_in_time(50.0) and not unseen.is_in_time(150.0)


def save_bag(folder: Path, probs: dict[str, list[float]], *, classes: tuple[str, ...] = ("fear", "joy")) -> Path:
    """A bag that says so of some faces."""
    logits = np.log(np.array(list(probs.values()), np.float32))
    subjects = tuple(None if name == "c" else f"person {name}" for name in probs)
    labels = np.array([ord(name) % 2 for name in probs], np.int8)
    save_scores(folder / OUT_OF_BAG_FILE, Scores(tuple(probs), subjects, labels, logits, classes))
    return folder


def test_bags_together_say_the_mean_of_those_that_have_not_seen_a_face(tmp_path: Path) -> None:
    folders = [
        save_bag(tmp_path / "b000", {"b": [0.2, 0.8], "c": [0.5, 0.5]}),
        save_bag(tmp_path / "b001", {"a": [0.9, 0.1], "b": [0.6, 0.4]}),
        tmp_path / "b002",  # it had no time for that
    ]

    together = out_of_bag([*folders, folders[0]])

    assert together is not None
    assert together.sample_ids == ("a", "b", "c")
    assert together.subjects == ("person a", "person b", None)
    assert together.labels.tolist() == [1, 0, 1]
    np.testing.assert_allclose(together.probs, [[0.9, 0.1], [0.4, 0.6], [0.5, 0.5]], atol=1e-6)


def test_bags_say_nothing_together_when_none_has_scores(tmp_path: Path) -> None:
    assert out_of_bag([tmp_path]) is None
    assert out_of_bag([]) is None


def test_bags_of_other_classes_are_refused(tmp_path: Path) -> None:
    folders = [
        save_bag(tmp_path / "b000", {"a": [0.2, 0.8]}),
        save_bag(tmp_path / "b001", {"a": [0.2, 0.8]}, classes=("joy", "fear")),
    ]

    with pytest.raises(DataError, match="bags must have the classes fear, joy, got joy, fear"):
        out_of_bag(folders)
