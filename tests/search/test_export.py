"""The artifact: complete, whole or not at all, and independent of us."""

import json
import os
import subprocess
import sys
import venv
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from safetensors import safe_open

from search.evaluate import load_ensemble
from search.export import ArtifactNetwork, write_artifact
from spaces.config import TrialConfig
from spaces.errors import EnsembleError, ModelError, OutputError
from trainables.checkpoint import load_network, load_spec, save_network
from trainables.heads.pack_run import PackedTrial, PackOrder, PackRun
from trainables.trainer import WEIGHTS_FILE

if TYPE_CHECKING:
    from trainables.data.table import FaceTable

CLASSES = ("anger", "fear", "happiness")

ASK = """
import io, json, sys
import mlflow, pandas
from PIL import Image

encoded = io.BytesIO()
Image.linear_gradient("L").save(encoded, "PNG")
model = mlflow.pyfunc.load_model(sys.argv[1])
answer = model.predict(pandas.DataFrame({"image": [encoded.getvalue()]}))
ours = [name for name in ("spaces", "trainables", "search", "ray") if name in sys.modules]
print(json.dumps({"answer": answer.iloc[0].to_dict(), "ours": ours}))
"""


def ask_elsewhere(python: Path | str, model: Path) -> dict[str, object]:
    """Load and ask the artifact in a process that knows nothing of the checkout and may not read pickles."""
    environment = {**os.environ, "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
    environment.pop("PYTHONPATH", None)
    command = [str(python), "-I", "-c", ASK, str(model)]
    ended = subprocess.run(command, cwd="/", env=environment, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    document: dict[str, object] = json.loads(ended.stdout.splitlines()[-1])
    return document


def one(path: Path, **looks: Any) -> list[ArtifactNetwork]:
    return [ArtifactNetwork(path, weight=1.0, member="t0000", role="fine_tuned", **looks)]


def write(out: Path, networks: list[ArtifactNetwork], **options: Any) -> Path:
    return write_artifact(out, networks=networks, classes=CLASSES, card="", provenance={}, **options)


def members_of(artifact: Path) -> dict[str, Any]:
    members: dict[str, Any] = json.loads((artifact / "artifacts" / "ensemble" / "members.json").read_text())
    return members


def save_other_heads(source: Path, target: Path, *, seed: int) -> Path:
    """The network of a file with another head on the same encoder, as head-only trials leave it."""
    network, spec = load_network(source)
    generator = torch.Generator().manual_seed(seed)
    torch.nn.init.normal_(network.heads.linear.weight, std=5.0, generator=generator)
    save_network(target, network.state_dict(), spec)
    return target


def draw_faces() -> npt.NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (4, 40, 40, 1), dtype=np.uint8)


def files_below(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.slow
def test_artifact_answers_where_nothing_of_ours_is_imported_and_pickle_is_off(artifact: Path) -> None:
    document = ask_elsewhere(sys.executable, artifact)

    assert document["ours"] == []
    assert sorted(document["answer"]) == sorted(["expression", "probability", *CLASSES])  # type: ignore[call-overload]


@pytest.mark.slow
@pytest.mark.skipif(
    os.environ.get("AFFECTUNE_FRESH_VENV") != "1", reason="installs torch anew; AFFECTUNE_FRESH_VENV=1 asks for it"
)
def test_artifact_answers_in_a_fresh_environment_of_its_own_requirements(artifact: Path, tmp_path: Path) -> None:
    venv.create(tmp_path / "venv", with_pip=True)
    python = tmp_path / "venv" / "bin" / "python"
    subprocess.run([python, "-m", "pip", "install", "-q", "-r", artifact / "requirements.txt"], check=True)

    document = ask_elsewhere(python, artifact)

    assert document["ours"] == []
    assert document["answer"] == pytest.approx(ask_elsewhere(sys.executable, artifact)["answer"], abs=1e-5)


def test_artifact_holds_no_pickle(artifact: Path) -> None:
    suffixes = {path.suffix for path in artifact.rglob("*") if path.is_file()}

    assert suffixes <= {"", ".json", ".md", ".py", ".safetensors", ".txt", ".yaml"}


def test_artifact_does_not_say_where_it_was_made(artifact: Path) -> None:
    texts = [path for path in artifact.rglob("*") if path.is_file() and path.suffix != ".safetensors"]

    assert [path for path in texts if str(artifact.parent.parent) in path.read_text()] == []
    assert str(Path(__file__).parents[2]) not in (artifact / "MLmodel").read_text()


def test_artifact_stores_equal_networks_once_and_leaves_those_without_a_vote_out(artifact: Path) -> None:
    folder = artifact / "artifacts" / "ensemble"
    members = json.loads((folder / "members.json").read_text())

    assert sorted(path.name for path in folder.glob("*.safetensors")) == [n["file"] for n in members["networks"]]
    assert [network["weight"] for network in members["networks"]] == pytest.approx([0.4, 0.3, 0.3])
    assert [vote["member"] for vote in members["networks"][0]["votes"]] == ["t0000", "b000"]
    assert members["classes"] == list(CLASSES)
    assert members["provenance"] == {"search": "test"}


def test_artifact_stores_weights_in_float32(artifact: Path) -> None:
    file = sorted((artifact / "artifacts" / "ensemble").glob("*.safetensors"))[0]

    with safe_open(file, framework="pt") as opened:
        kinds = {opened.get_slice(name).get_dtype() for name in opened.keys()}  # noqa: SIM118

    assert kinds <= {"F32", "I64"}


def test_networks_of_an_artifact_are_saved_models_to_start_from(artifact: Path, network_files: list[Path]) -> None:
    files = sorted((artifact / "artifacts" / "ensemble").glob("*.safetensors"))

    assert [load_spec(file) for file in files] == [load_spec(file) for file in network_files]
    for file, source in zip(files, network_files, strict=True):
        stored, original = load_network(file)[0].state_dict(), load_network(source)[0].state_dict()
        assert all(torch.equal(stored[name], tensor) for name, tensor in original.items())


def test_artifact_stores_an_encoder_once_for_all_heads_on_it(network_files: list[Path], tmp_path: Path) -> None:
    files = [network_files[0], *(save_other_heads(network_files[0], tmp_path / f"{i}", seed=i) for i in (1, 2))]
    networks = [ArtifactNetwork(file, 1 / 3, f"t{i:04d}", "fine_tuned") for i, file in enumerate(files)]

    out = write(tmp_path / "model", networks)

    entries, folder = members_of(out)["networks"], out / "artifacts" / "ensemble"
    assert [(entry["file"], entry["encoder_from"]) for entry in entries] == [
        ("00-t0000-fine_tuned.safetensors", None),
        ("01-t0001-fine_tuned.heads.safetensors", "00-t0000-fine_tuned.safetensors"),
        ("02-t0002-fine_tuned.heads.safetensors", "00-t0000-fine_tuned.safetensors"),
    ]
    assert load_network(folder / entries[0]["file"])[1] == load_spec(network_files[0])
    with safe_open(folder / entries[1]["file"], framework="pt") as opened:
        assert sorted(opened.keys()) == ["heads.linear.bias", "heads.linear.weight"]
    alone = [load_ensemble(write(tmp_path / f"m{i}", one(file))) for i, file in enumerate(files)]
    expected = np.mean([ensemble.predict_decoded(draw_faces()) for ensemble in alone], axis=0)
    assert load_ensemble(out).predict_decoded(draw_faces()) == pytest.approx(expected, abs=1e-6)


def test_head_only_trials_share_their_backbone_in_the_artifact(
    face_table: "FaceTable", tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AFFECTUNE_CACHE", str(tmp_path / "cache"))
    base = {"model.backbone": "test_efficientnet", "model.weights": "none", "model.image_px": 32, "train.epochs": 0}
    trials = []
    for i, rate in enumerate((1e-2, 3e-3)):
        config = TrialConfig.from_flat({**base, "train.head_epochs": 1, "optimiser.head_only_lr": rate}).to_flat()
        trials.append(PackedTrial(f"t{i:04d}", config, str(tmp_path / f"t{i:04d}")))
    pack = PackRun(PackOrder("pack-0001", tuple(trials), str(face_table.path)))
    while not pack.step()["end"]:
        pass
    pack.release()
    files = [Path(trial.folder) / WEIGHTS_FILE for trial in trials]
    networks = [ArtifactNetwork(file, 0.5, file.parent.name, "fine_tuned") for file in files]

    out = write_artifact(tmp_path / "m", networks=networks, classes=face_table.info.classes, card="", provenance={})

    entries = members_of(out)["networks"]
    assert [entry["encoder_from"] for entry in entries] == [None, entries[0]["file"]]


def test_artifact_shares_no_encoder_of_which_one_number_differs(network_files: list[Path], tmp_path: Path) -> None:
    network, spec = load_network(network_files[0])
    next(network.encoder.parameters()).data.view(-1)[0] += 1e-3
    save_network(tmp_path / "moved.safetensors", network.state_dict(), spec)
    files = [network_files[0], tmp_path / "moved.safetensors"]

    out = write(tmp_path / "model", [ArtifactNetwork(file, 0.5, file.stem, "fine_tuned") for file in files])

    assert [entry["encoder_from"] for entry in members_of(out)["networks"]] == [None, None]


def test_artifact_says_that_a_file_of_heads_alone_is_no_network_to_start_from(
    network_files: list[Path], tmp_path: Path
) -> None:
    files = [network_files[0], save_other_heads(network_files[0], tmp_path / "other", seed=1)]
    out = write(tmp_path / "model", [ArtifactNetwork(file, 0.5, file.stem, "fine_tuned") for file in files])
    heads = out / "artifacts" / "ensemble" / members_of(out)["networks"][1]["file"]

    with pytest.raises(ModelError, match=f"saved model must be one that affectune wrote, got bare weights: {heads}"):
        load_network(heads)


def test_network_looks_at_faces_as_often_as_the_export_says(network_files: list[Path], tmp_path: Path) -> None:
    out = write(tmp_path / "model", one(network_files[1], mirror=False, shift_px=0))

    entry = members_of(out)["networks"][0]
    assert (entry["mirror"], entry["shift_px"]) == (False, 0)
    stored = load_spec(out / "artifacts" / "ensemble" / entry["file"])
    assert (stored.mirror, stored.shift_px) == (True, 2)
    as_saved = load_ensemble(write(tmp_path / "looks", one(network_files[1]))).predict_decoded(draw_faces())
    assert np.abs(load_ensemble(out).predict_decoded(draw_faces()) - as_saved).max() > 1e-3


def test_network_that_votes_with_two_sorts_of_looks_is_stored_once(network_files: list[Path], tmp_path: Path) -> None:
    networks = [
        ArtifactNetwork(network_files[1], 0.5, "t0000", "fine_tuned"),
        ArtifactNetwork(network_files[1], 0.5, "t0001", "fine_tuned", mirror=False, shift_px=0),
    ]

    out = write(tmp_path / "model", networks)

    entries = members_of(out)["networks"]
    assert [(entry["mirror"], entry["encoder_from"]) for entry in entries] == [
        (True, None),
        (False, entries[0]["file"]),
    ]


def test_temperature_softens_the_answers(network_files: list[Path], tmp_path: Path) -> None:
    plain = load_ensemble(write(tmp_path / "plain", one(network_files[0]))).predict_decoded(draw_faces())

    out = write(tmp_path / "model", one(network_files[0]), temperature=2.0)

    assert members_of(out)["temperature"] == 2.0
    expected = np.sqrt(plain) / np.sqrt(plain).sum(axis=1, keepdims=True)
    assert load_ensemble(out).predict_decoded(draw_faces()) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("temperature", [0.0, -1.0, float("inf"), float("nan")])
def test_write_artifact_refuses_a_temperature_that_is_none(
    temperature: float, network_files: list[Path], tmp_path: Path
) -> None:
    with pytest.raises(EnsembleError, match=f"temperature must be above 0 and finite, got {temperature}"):
        write(tmp_path / "model", one(network_files[0]), temperature=temperature)


def test_attachments_stand_beside_the_card(network_files: list[Path], tmp_path: Path) -> None:
    out = write(tmp_path / "model", one(network_files[0]), attachments={"pictures/confusion.png": b"picture"})

    assert (out / "pictures" / "confusion.png").read_bytes() == b"picture"


def test_earlier_export_is_replaced_as_a_whole_where_asked_for(network_files: list[Path], tmp_path: Path) -> None:
    out = write(tmp_path / "model", one(network_files[0]), attachments={"old.png": b"old"})

    write(out, one(network_files[2]), replace=True)

    assert members_of(out)["networks"][0]["backbone"] == "test_resnet"
    assert not (out / "old.png").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_earlier_export_is_not_replaced_unless_asked_for(network_files: list[Path], tmp_path: Path) -> None:
    out = write(tmp_path / "model", one(network_files[0]))

    with pytest.raises(OutputError, match=f"output folder must be new or empty, got {out}"):
        write(out, one(network_files[2]))


def test_earlier_export_stays_as_it_was_when_the_next_one_fails(network_files: list[Path], tmp_path: Path) -> None:
    out, broken = write(tmp_path / "model", one(network_files[0])), tmp_path / "broken.safetensors"
    broken.write_bytes(network_files[0].read_bytes()[:-1000])
    before = files_below(out)

    with pytest.raises(ModelError, match=str(broken)):
        write(out, one(broken), replace=True)

    assert files_below(out) == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["broken.safetensors", "model"]


@pytest.mark.parametrize("missing", ["MLmodel", "artifacts/ensemble/members.json"], ids=["mlflow", "members"])
def test_only_an_earlier_export_of_ours_is_replaced(missing: str, network_files: list[Path], tmp_path: Path) -> None:
    out = write(tmp_path / "model", one(network_files[0]))
    (out / missing).unlink()
    before = files_below(out)

    with pytest.raises(
        OutputError, match=f"must be new, empty or an earlier export, got {out}; choose another or remove"
    ):
        write(out, one(network_files[0]), replace=True)

    assert files_below(out) == before


def test_artifact_pins_what_it_needs(artifact: Path) -> None:
    lines = (artifact / "requirements.txt").read_text().splitlines()

    assert {line.partition("==")[0] for line in lines} == {
        "mlflow", "torch", "torchvision", "timm", "pillow", "safetensors", "numpy", "pandas",
    }  # fmt: skip
    assert all("==" in line and "+" not in line for line in lines)


def test_artifact_has_a_card_that_names_classes_networks_and_limits(artifact: Path) -> None:
    card = (artifact / "MODEL_CARD.md").read_text()

    assert "Chosen from the trials of a test." in card
    assert "anger, fear, happiness" in card
    assert "| 00-t0000-fine_tuned.safetensors | test_efficientnet | 0.400 | 40 px, grey, seen at 40 px |" in card
    assert "## Intended use and limits" in card


def test_write_artifact_refuses_a_folder_that_holds_something(network_files: list[Path], tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")

    with pytest.raises(OutputError, match=f"output folder must be new or empty, got {tmp_path}"):
        write_artifact(tmp_path, networks=one(network_files[0]), classes=CLASSES, card="", provenance={})


def test_write_artifact_leaves_nothing_behind_when_it_fails(network_files: list[Path], tmp_path: Path) -> None:
    broken = tmp_path / "broken.safetensors"
    broken.write_bytes(network_files[0].read_bytes()[:-1000])

    with pytest.raises(ModelError, match=str(broken)):
        write_artifact(tmp_path / "out" / "model", networks=one(broken), classes=CLASSES, card="", provenance={})

    assert [path for path in tmp_path.rglob("*") if path != broken and path.name != "out"] == []


def test_write_artifact_refuses_a_network_that_does_not_know_a_class(network_files: list[Path], tmp_path: Path) -> None:
    classes = (*CLASSES, "surprise")

    with pytest.raises(ModelError, match="network must know every class, got anger, fear, happiness without surprise"):
        write_artifact(tmp_path / "model", networks=one(network_files[0]), classes=classes, card="", provenance={})


@pytest.mark.parametrize("weights", [[0.5, 0.4], [1.5, -0.5]], ids=["sum", "negative"])
def test_write_artifact_refuses_weights_that_are_no_shares(
    weights: list[float], network_files: list[Path], tmp_path: Path
) -> None:
    networks = [ArtifactNetwork(network_files[0], weight, f"t{i}", "fine_tuned") for i, weight in enumerate(weights)]

    with pytest.raises(EnsembleError, match="weights must be non-negative with the sum 1, got"):
        write_artifact(tmp_path / "model", networks=networks, classes=CLASSES, card="", provenance={})


def test_write_artifact_refuses_an_empty_ensemble(tmp_path: Path) -> None:
    with pytest.raises(EnsembleError, match="an ensemble must have a network, got 0"):
        write_artifact(tmp_path / "model", networks=[], classes=CLASSES, card="", provenance={})
