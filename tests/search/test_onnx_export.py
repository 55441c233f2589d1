"""The ONNX graph says what the predictor says, and is not written where it would not."""

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import pytest
import torch
from PIL import Image

from search.evaluate import load_ensemble
from search.export import ArtifactNetwork, write_artifact
from search.onnx_export import Decoding, resize_by_matrices, write_onnx
from spaces.errors import ModelError
from trainables.checkpoint import NetworkSpec, load_network, save_network
from trainables.models.architectures.answers import HandRuleByName
from trainables.models.architectures.design import Design
from trainables.models.backbones import build_network
from trainables.models.inputs import predict_outputs
from trainables.scores import softmax

CLASSES = ("anger", "fear", "happiness")
SMALL = {"attention_heads": 2, "attention_width": 32}

SIZES = {
    "as-it-is": (48, 48),
    "smaller": (20, 31),
    "larger": (131, 120),
    "one-side": (48, 90),
    "other-side": (90, 48),
    "wide": (40, 300),
    "tall": (300, 40),
    "nearly-tall": (96, 72),
    "just-tall": (97, 72),
    "pixel": (1, 1),
}
"""Height and width of images; Pillow begins with the rows of tall ones."""


def draw_images(height: int, width: int, *, n: int = 3, seed: int = 0) -> npt.NDArray[np.uint8]:
    """Noise over blotches, [n, height, width, 3]."""
    generator = np.random.default_rng(seed)
    images = []
    for _ in range(n):
        coarse = Image.fromarray(generator.integers(0, 256, (8, 8, 3), dtype=np.uint8))
        smooth = np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC), dtype=np.float64)
        images.append((smooth + generator.uniform(-30, 30, smooth.shape)).clip(0, 255).astype(np.uint8))
    return np.stack(images)


def to_png(image: npt.NDArray[np.uint8]) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.mark.parametrize("channels", [1, 3], ids=["grey", "colour"])
@pytest.mark.parametrize("size", SIZES)
def test_decoding_is_pillows_to_the_last_bit(size: str, channels: int) -> None:
    images = draw_images(*SIZES[size])

    with torch.compiler.set_stance("force_eager"):
        decoded = Decoding((48, channels))(torch.from_numpy(images)).numpy()

    pictures = [Image.fromarray(image).convert("L" if channels == 1 else "RGB") for image in images]
    expected = [np.asarray(picture.resize((48, 48), Image.Resampling.BILINEAR)) for picture in pictures]
    np.testing.assert_array_equal(decoded, np.stack(expected).reshape(3, 48, 48, channels))


@pytest.mark.parametrize("px", [24, 40, 48, 112])
def test_resizing_by_matrices_is_the_antialiased_one_of_training(px: int) -> None:
    maps = torch.rand(2, 3, 48, 48, generator=torch.Generator().manual_seed(0)) * 255

    resized = resize_by_matrices(maps, px)

    expected = torch.nn.functional.interpolate(maps, (px, px), mode="bilinear", antialias=True, align_corners=False)
    torch.testing.assert_close(resized, expected, rtol=1e-5, atol=1e-4)


def save(path: Path, design: Design, backbone: str = "test_efficientnet", **feed: Any) -> Path:
    """An untrained network whose answers, its hand module's too, differ from face to face."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(len(path.stem))
        network = build_network(backbone, n_classes=3, design=design).eval()
        faces = torch.from_numpy(draw_images(40, 40, n=24)).permute(0, 3, 1, 2) / 64 - 2
        with torch.no_grad():
            if design.encoder == "deviation":
                for parameter in network.encoder.backbone.parameters():  # else the twins agree
                    parameter.mul_(1.2)
            below = network.heads.hidden(network.outputs(faces)["embeddings"])
            network.heads.linear.weight.div_(0.01 * (below.std(dim=0) + 1e-3 * below.std()) * below.shape[1] ** 0.5)
            network.heads.linear.bias.sub_(network.heads.linear.weight @ below.mean(dim=0))
        if network.hand is not None:
            torch.nn.init.normal_(network.hand.linear.weight, std=3.0)
    fed = {"image_px": 40, "table_px": 40, "channels": 1, "mean": (0.5,) * 3, "std": (0.25,) * 3} | feed
    save_network(path, network.state_dict(), NetworkSpec(backbone, CLASSES, design=design, **fed))
    return path


def write(out: Path, files: list[Path], **options: Any) -> Path:
    networks = [ArtifactNetwork(file, 1 / len(files), file.stem, "fine_tuned") for file in files]
    return write_artifact(out, networks=networks, classes=CLASSES, card="", provenance={}, **options)


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An artifact with its graph: every kind of encoder, seen in several ways, and heads on a shared one."""
    folder = tmp_path_factory.mktemp("graph")
    files = [
        save(folder / "cut", Design(stride=16), mirror=True, shift_px=2),
        save(folder / "enlarged", Design(head_width=16), image_px=56, channels=3, mirror=True),
        save(folder / "dan", Design(encoder="dan", attention_fusion="concat", **SMALL)),  # type: ignore[arg-type]
        save(folder / "deviation", Design(encoder="deviation"), table_px=56, image_px=48),
        save(folder / "branches", Design(encoder="two_branch", appearance_backbone="test_resnet", **SMALL)),  # type: ignore[arg-type]
    ]
    network, spec = load_network(files[0])
    network.heads.linear.weight.data = network.heads.linear.weight.data.flip(0)
    save_network(folder / "other_head", network.state_dict(), spec)
    return write(folder / "model", [*files, folder / "other_head"], temperature=1.3, with_onnx=True)


@pytest.fixture(scope="module")
def session(exported: Path) -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(exported / "ensemble.onnx", providers=["CPUExecutionProvider"])


@pytest.mark.slow
@pytest.mark.parametrize("size", ["as-it-is", "smaller", "larger", "tall", "pixel"])
@pytest.mark.parametrize("n", [1, 3, 70], ids=["one", "some", "many"])
def test_graph_says_of_images_what_the_predictor_says(
    n: int, size: str, exported: Path, session: onnxruntime.InferenceSession
) -> None:
    images = draw_images(*SIZES[size], n=n, seed=1)

    probs, labels = session.run(["probabilities", "label"], {"images": images})

    expected, _ = load_ensemble(exported).predict_encoded([to_png(image) for image in images])
    assert (probs.dtype, labels.dtype) == (np.float32, np.int64)
    assert np.abs(probs - expected).max() < 1e-4
    assert labels.tolist() == expected.argmax(axis=1).tolist()


@pytest.mark.slow
def test_graph_tells_faces_apart(session: onnxruntime.InferenceSession) -> None:
    probs = session.run(["probabilities"], {"images": draw_images(40, 40, n=16)})[0]

    assert np.ptp(probs, axis=0).max() > 0.05


@pytest.mark.slow
def test_graph_holds_each_network_once(exported: Path) -> None:
    weights = sum(file.stat().st_size for file in exported.rglob("*.safetensors"))

    assert (exported / "ensemble.onnx").stat().st_size < 1.2 * weights


@pytest.mark.slow
def test_graph_says_what_it_takes_and_not_where_it_was_made(exported: Path) -> None:
    model = onnx.load(exported / "ensemble.onnx")

    notes = {prop.key: prop.value for prop in model.metadata_props}
    assert json.loads(notes["affectune.classes"]) == list(CLASSES)
    assert notes["affectune.format"] == "3"
    assert notes["affectune.images"].startswith("uint8 [n, height, width, 3], RGB")
    onnx.checker.check_model(model)
    assert str(Path(__file__).parents[2]).encode() not in (exported / "ensemble.onnx").read_bytes()


@pytest.mark.slow
def test_hand_rule_is_in_the_graph(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    design = Design(hand_backbone="test_resnet")
    grey = draw_images(40, 40, n=24)[..., :1]
    network, spec = load_network(save(tmp_path / "bare", design, mirror=True))
    seen = np.sort(softmax(predict_outputs(network, grey, spec)["hand"])[:, 1])
    rule = HandRuleByName("anger", float(seen[11] + seen[12]) / 2, ("happiness",))  # a hand in every other face
    save(tmp_path / "rule", design, mirror=True, hand_rule=rule)
    bare, artifact = (write(tmp_path / f"{name}-model", [tmp_path / name]) for name in ("bare", "rule"))
    capfd.readouterr()

    write_onnx(artifact, tmp_path / "hand.onnx")

    assert capfd.readouterr() == ("", "")
    session = onnxruntime.InferenceSession(tmp_path / "hand.onnx")
    probs = session.run(["probabilities"], {"images": grey.repeat(3, axis=3)})[0]
    assert np.abs(probs - load_ensemble(artifact).predict_decoded(grey)).max() < 1e-4
    assert np.abs(probs - load_ensemble(bare).predict_decoded(grey)).max() > 0.05


@pytest.mark.slow
def test_graph_that_answers_otherwise_is_refused_with_the_difference(tmp_path: Path) -> None:
    artifact = write(tmp_path / "model", [save(tmp_path / "plain", Design())])
    predictor = artifact / "predictor.py"
    predictor.write_text(predictor.read_text().replace("Resampling.BILINEAR", "Resampling.NEAREST"))

    with pytest.raises(ModelError, match=r"ONNX graph must answer within 0\.0001 of the model, got 0\.\d+: .*model"):
        write_onnx(artifact, tmp_path / "plain.onnx")

    assert sorted(path.name for path in tmp_path.iterdir()) == ["model", "plain"]


def test_folder_that_is_no_artifact_has_no_graph(tmp_path: Path) -> None:
    with pytest.raises(
        ModelError, match=f"model must be an ensemble that 'affectune export' wrote, got .*: {tmp_path}"
    ):
        write_onnx(tmp_path, tmp_path / "x.onnx")

    assert list(tmp_path.iterdir()) == []
