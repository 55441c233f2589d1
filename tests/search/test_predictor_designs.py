"""The predictor inside the artifact runs every kind of network, and mixes members as the trials did."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch

from search.evaluate import load_ensemble
from search.export import ArtifactNetwork, write_artifact
from trainables.checkpoint import NetworkSpec, load_network, save_network
from trainables.models.architectures.answers import HandRuleByName
from trainables.models.architectures.design import Design
from trainables.models.architectures.deviation import DeviationEncoder
from trainables.models.architectures.network import ExpressionNetwork
from trainables.models.backbones import build_network
from trainables.models.inputs import predict_logits
from trainables.scores import softmax

CLASSES = ("anger", "fear", "happiness")
EIGHT = ("neutral", "anger", "disgust", "fear", "happiness", "sadness", "surprise", "other")

DESIGNS = {
    "plain": Design(),
    "deep-head": Design(head_width=32),
    "cut": Design(stride=16),
    "dan": Design(encoder="dan", attention_heads=2, attention_width=32),
    "deviation": Design(encoder="deviation"),
    "two-branch": Design(
        encoder="two_branch", attention_heads=2, attention_width=32, appearance_backbone="test_resnet", landmarks=True
    ),
    "joint": Design(affect="joint"),
    "separate": Design(affect="separate"),
    "hand": Design(hand_backbone="test_resnet"),
}


def save_loud_network(
    path: Path, design: Design, *, classes: tuple[str, ...] = CLASSES, mirror: bool = True, seed: int = 0
) -> Path:
    """An untrained network whose answers, its hand module's too, differ from face to face."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = build_network("test_efficientnet", n_classes=len(classes), design=design)
        if isinstance(network.encoder, DeviationEncoder):
            for parameter in network.encoder.backbone.parameters():  # else the twins agree
                parameter.data *= 1.2
        _tell_faces_apart(network)
    rule = HandRuleByName("fear", 0.5, ("happiness",)) if design.hand_backbone else None
    spec = NetworkSpec(
        "test_efficientnet", classes, 40, 40, 1, (0.5,) * 3, (0.25,) * 3, mirror=mirror, design=design, hand_rule=rule
    )
    save_network(path, network.state_dict(), spec)
    return path


def _tell_faces_apart(network: ExpressionNetwork) -> None:
    """Scale the heads to the spread of what they stand on, so that logits differ by about 1 between faces."""
    with torch.no_grad():
        inputs = torch.from_numpy(draw_faces()).permute(0, 3, 1, 2) / 64 - 2
        spread = network.eval().outputs(inputs.expand(-1, 3, -1, -1))
        layers = [network.heads.linear] if network.heads.separate is None else [network.heads.separate.expression]
        below = network.heads.hidden(spread["embeddings"])
        for layer in layers:
            embeddings = below[:, : layer.in_features]
            weight = torch.randn(layer.out_features, embeddings.shape[1]) / (embeddings.std(0) + 1e-9)
            weight /= embeddings.shape[1] ** 0.5
            layer.weight[:, : embeddings.shape[1]] = weight
            layer.bias[:] = -(weight @ embeddings.mean(0))
        if network.hand is not None:
            torch.nn.init.normal_(network.hand.linear.weight, std=3.0)


def draw_faces() -> npt.NDArray[np.uint8]:
    """Blotches, [24, 40, 40, 1]."""
    coarse = torch.from_numpy(np.random.default_rng(0).uniform(0, 255, (24, 1, 8, 8)))
    fine = torch.nn.functional.interpolate(coarse, (40, 40), mode="bilinear")
    return fine.numpy().astype(np.uint8).transpose(0, 2, 3, 1)


@pytest.fixture(scope="module")
def faces() -> npt.NDArray[np.uint8]:
    return draw_faces()


@pytest.mark.parametrize("name", DESIGNS)
def test_artifact_of_any_design_answers_as_the_training_code(
    name: str, faces: npt.NDArray[np.uint8], tmp_path: Path
) -> None:
    path = save_loud_network(tmp_path / "w.safetensors", DESIGNS[name])
    networks = [ArtifactNetwork(path, weight=1.0, member="t0000", role="fine_tuned")]

    out = write_artifact(tmp_path / "model", networks=networks, classes=CLASSES, card="", provenance={})

    network, spec = load_network(path)
    expected = softmax(predict_logits(network, faces, spec))
    assert load_ensemble(out).predict_decoded(faces) == pytest.approx(expected, abs=1e-5)
    assert np.ptp(expected, axis=0).max() > 0.1


@pytest.mark.parametrize("name", ["cut", "dan", "deviation", "two-branch", "hand"])
def test_heads_on_one_encoder_answer_as_the_training_code(
    name: str, faces: npt.NDArray[np.uint8], tmp_path: Path
) -> None:
    first = save_loud_network(tmp_path / "first.safetensors", DESIGNS[name])
    network, spec = load_network(first)
    network.heads.linear.weight.data = network.heads.linear.weight.data.flip(0)
    save_network(tmp_path / "second.safetensors", network.state_dict(), spec)
    files = [first, tmp_path / "second.safetensors"]
    networks = [ArtifactNetwork(file, 0.5, file.stem, "fine_tuned") for file in files]

    out = write_artifact(tmp_path / "model", networks=networks, classes=CLASSES, card="", provenance={})

    assert len(list(out.rglob("*.heads.safetensors"))) == 1
    alone = [softmax(predict_logits(*_loaded(file, faces))) for file in files]
    assert load_ensemble(out).predict_decoded(faces) == pytest.approx(np.mean(alone, axis=0), abs=1e-5)


def _loaded(file: Path, faces: npt.NDArray[np.uint8]) -> tuple[ExpressionNetwork, npt.NDArray[np.uint8], NetworkSpec]:
    network, spec = load_network(file)
    return network, faces, spec


def test_members_logits_are_mixed_where_the_trial_mixed_them(faces: npt.NDArray[np.uint8], tmp_path: Path) -> None:
    own = save_loud_network(tmp_path / "own.safetensors", DESIGNS["plain"], seed=1)
    partner = save_loud_network(tmp_path / "partner.safetensors", DESIGNS["joint"], classes=EIGHT, seed=2)
    other = save_loud_network(tmp_path / "other.safetensors", DESIGNS["dan"], seed=3)
    networks = [
        ArtifactNetwork(own, weight=0.6 * 0.7, member="t0000", role="fine_tuned", space="logits"),
        ArtifactNetwork(partner, weight=0.6 * 0.3, member="t0000", role="partner", space="logits"),
        ArtifactNetwork(other, weight=0.4, member="t0001", role="fine_tuned"),
    ]

    out = write_artifact(tmp_path / "model", networks=networks, classes=CLASSES, card="", provenance={})

    logits = []
    for path in (own, partner, other):
        network, spec = load_network(path)
        logits.append(predict_logits(network, faces, spec)[:, [spec.classes.index(name) for name in CLASSES]])
    expected = 0.6 * softmax(0.7 * logits[0] + 0.3 * logits[1]) + 0.4 * softmax(logits[2])
    assert load_ensemble(out).predict_decoded(faces) == pytest.approx(expected, abs=1e-5)


def test_artifact_stays_as_it_was_exported_when_it_is_used(faces: npt.NDArray[np.uint8], tmp_path: Path) -> None:
    path = save_loud_network(tmp_path / "w.safetensors", DESIGNS["plain"])
    networks = [ArtifactNetwork(path, weight=1.0, member="t0000", role="fine_tuned")]
    out = write_artifact(tmp_path / "model", networks=networks, classes=CLASSES, card="", provenance={})
    before = sorted(str(file) for file in out.rglob("*"))

    load_ensemble(out).predict_decoded(faces)

    assert sorted(str(file) for file in out.rglob("*")) == before
    assert not list(out.rglob("__pycache__"))
