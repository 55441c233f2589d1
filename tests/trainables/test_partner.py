"""A saved model as a blend's partner: its classes are mapped by name."""

from pathlib import Path

import numpy as np
import pytest
import torch

from spaces.errors import ModelError
from trainables.checkpoint import NetworkSpec, load_network, save_network
from trainables.data.table import FaceTable
from trainables.models.backbones import build_network
from trainables.models.inputs import predict_logits
from trainables.models.partner import check_partner, partner_logits

EIGHT = ("joy", "contempt", "disgust", "fear", "neutral", "anger", "sadness", "surprise")


@pytest.fixture(scope="module")
def eight_classes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A saved network of eight classes, trained on colour at 40 px."""
    path = tmp_path_factory.mktemp("partner") / "eight.safetensors"
    network = build_network("test_efficientnet", n_classes=8)
    torch.nn.init.normal_(network.heads.linear.weight, std=2.0)
    spec = NetworkSpec("test_efficientnet", EIGHT, 40, 40, 3, (0.5,) * 3, (0.25,) * 3)
    save_network(path, network.state_dict(), spec)
    return path


def test_partner_of_eight_classes_serves_a_task_of_three(toy_table: FaceTable, eight_classes: Path) -> None:
    split = toy_table.split("valid")

    logits = partner_logits(eight_classes, split, toy_table.info.classes, device=torch.device("cpu"))

    network, spec = load_network(eight_classes)
    np.testing.assert_allclose(logits, predict_logits(network, split.images, spec)[:, [5, 3, 0]], rtol=1e-5)


def test_partner_is_refused_with_the_classes_it_lacks(eight_classes: Path) -> None:
    with pytest.raises(ModelError, match=r"blend\.partner must know every class of the table, got .* without awe, bor"):
        check_partner(eight_classes, ("anger", "boredom", "awe"))


def test_partner_is_refused_when_there_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"saved model could not be read, .*gone\.safetensors"):
        check_partner(tmp_path / "gone.safetensors", ("anger",))
