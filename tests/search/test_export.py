"""The artifact: complete, whole or not at all, and independent of us."""

import json
import os
import subprocess
import sys
import venv
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from search.export import ArtifactNetwork, write_artifact
from search.registry import register_artifact
from spaces.errors import EnsembleError, ModelError, OutputError, TrackingError
from trainables.checkpoint import load_network, load_spec

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


def one(path: Path) -> list[ArtifactNetwork]:
    return [ArtifactNetwork(path, weight=1.0, member="t0000", role="fine_tuned")]


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


@pytest.mark.slow
def test_registered_artifact_loads_by_its_name(artifact: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import mlflow

    from search.evaluate import load_ensemble

    uri = f"sqlite:///{tmp_path}/mlflow.db"
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    before = mlflow.get_tracking_uri()

    versions = [register_artifact(artifact, "faces", uri) for _ in range(2)]
    classes = load_ensemble("models:/faces/2").classes

    mlflow.set_tracking_uri(before)
    assert versions == ["1", "2"]
    assert classes == CLASSES
    assert not (tmp_path / "mlruns").exists()


def test_register_artifact_says_that_the_server_does_not_answer(artifact: Path) -> None:
    with pytest.raises(TrackingError, match="must answer"):
        register_artifact(artifact, "faces", "http://127.0.0.1:9")
