"""`affectune search` of a paper's preset, as it is typed: what can't work is refused before anything is written."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from search.cli import main
from trainables.checkpoint import NetworkSpec, save_network
from trainables.data.synth import generate_split
from trainables.data.table import FaceTable, write_table
from trainables.models.backbones import build_network

Launch = Callable[..., tuple[int, str, list[Path]]]


@pytest.fixture(scope="module")
def files(face_table: FaceTable, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A saved model, and the bare weights of its backbone."""
    from safetensors.torch import save_file

    folder = tmp_path_factory.mktemp("files")
    classes = tuple(face_table.info.classes)
    network = build_network("test_efficientnet", n_classes=len(classes))
    spec = NetworkSpec("test_efficientnet", classes, 40, 40, 3, (0.5,) * 3, (0.25,) * 3)
    save_network(folder / "saved.safetensors", network.state_dict(), spec)
    save_file(network.encoder.backbone.net.state_dict(), folder / "bare.safetensors")
    return {"saved": folder / "saved.safetensors", "bare": folder / "bare.safetensors"}


@pytest.fixture
def launch(face_table: FaceTable, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Launch:
    """Types the command; its exit code, what it said, and what it left in its storage."""

    def launch(preset: str, *fixes: str, data: FaceTable = face_table) -> tuple[int, str, list[Path]]:
        storage = tmp_path / "runs"
        words = ["search", preset, "--data", str(data.path), "--storage", str(storage), "--name", "x", "--trials", "1"]
        code = main([*words, "--fix", *fixes] if fixes else words)
        printed = capsys.readouterr()
        assert printed.out == ""
        return code, printed.err, list(storage.glob("**/*")) if storage.exists() else []

    return launch


@pytest.mark.parametrize(
    ("preset", "fixes", "code", "sentence"),
    [
        ("paper003", ["hand.backbone=none"], 2, "the default makes no config, hand.backbone must name a network where"),
        ("paper003", ["hand.target=fearful"], 2, "hand.target must name classes of the table (anger, disgust, fear,"),
        ("paper003", ["hand.backbone=resnet05"], 2, "hand.backbone must be a timm model, got 'resnet05'; did you mean"),
        ("paper001", ["loss.class_weights=[1,3]"], 2, "loss.class_weights must have one weight a class (6), got 2"),
        ("paper002", ["blend.partner=gone.safetensors"], 2, "blend.partner must be none, head or a file that exists"),
        ("paper004", ["model.start={saved}"], 2, "model.start must be none where the backbone varies, got "),
        ("paper002", ["blend.partner={bare}"], 1, "saved model must be one that affectune wrote, got bare weights"),
        ("paper004", ["model.backbone=resnet18", "model.start={saved}"], 1, "model.start must be on the backbone 're"),
        (
            "paper001",
            ["model.image_px=64"],
            1,
            "model.image_px must be 224 for backbone 'vit_base_patch16_224', got 64",
        ),
    ],
)
def test_search_that_is_refused_says_one_sentence_and_writes_nothing(
    launch: Launch,
    files: dict[str, Path],
    preset: str,
    fixes: list[str],
    code: int,
    sentence: str,
) -> None:
    left_with, said, left = launch(preset, *(fix.format(**files) for fix in fixes))

    assert (left_with, left) == (code, [])
    assert said.startswith(f"affectune: {sentence}")
    assert said.count("\n") == 1


def test_search_without_a_label_it_needs_leaves_with_1_and_writes_nothing(
    launch: Launch, face_table: FaceTable, tmp_path: Path
) -> None:
    train = replace(generate_split("train", n=24, image_px=32), landmarks=None)
    valid = generate_split("valid", n=12, image_px=32)
    out, classes = tmp_path / "table", face_table.info.classes
    data = write_table(out, splits={"train": train, "valid": valid}, classes=classes, sources={})

    code, said, left = launch("paper000", data=data)

    assert (code, left) == (1, [])
    assert said.startswith("affectune: column 'landmarks' must be known on training faces")
