"""The winning ensemble as a folder that MLflow loads anywhere: safetensors, members.json, and no pickle."""

import hashlib
import json
import os
import shutil
import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import numpy as np

from search.evaluate import load_ensemble
from search.model_card import full_card
from spaces.errors import EnsembleError, ModelError
from trainables.checkpoint import NetworkSpec, load_spec, load_weights, save_network
from trainables.models import architectures
from trainables.outputs import new_folder

MEMBERS_FORMAT = 2
CARD_FILE = "MODEL_CARD.md"
PREDICTOR_FILE = Path(__file__).with_name("predictor.py")
CODE_DIR = Path(architectures.__file__).parent
"""The networks' own code, which travels with their weights."""

_REQUIREMENTS = ("mlflow", "torch", "torchvision", "timm", "pillow", "safetensors", "numpy", "pandas")


@dataclass(frozen=True)
class ArtifactNetwork:
    """One voter of the ensemble.

    Attributes:
        path: a safetensors file of `trainables.checkpoint.save_network`.
        weight: share of the vote; the member's weight times its blending share. All of an ensemble's sum to 1.
        member: the trial or bag it comes from, such as `t0007` or `b003`.
        role: what it is within the member.
        space: whether a member's networks are mixed by their probabilities or by their logits.
    """

    path: Path
    weight: float
    member: str
    role: Literal["fine_tuned", "partner"]
    space: Literal["probs", "logits"] = "probs"


def write_artifact(
    out: Path,
    *,
    networks: Sequence[ArtifactNetwork],
    classes: Sequence[str],
    card: str,
    provenance: Mapping[str, Any],
) -> Path:
    """Write an ensemble as an MLflow model folder, whole or not at all, after it has answered a first question.

    Args:
        out: a new or empty folder.
        networks: the voters; those of weight 0 are left out, files of the same content are stored once.
        classes: names, in the order of the answer's columns.
        card: Markdown for the model card: what the ensemble was chosen from, and its honest estimate.
        provenance: what members.json shall remember of its making (JSON values).

    Returns:
        `out`.

    Raises:
        OutputError: `out` already holds something, or the disk is full.
        ModelError: a network is missing, broken, or does not know every class.
        EnsembleError: there is no network, or the weights are not shares.
    """
    _check_weights(networks)
    with new_folder(out) as staging, tempfile.TemporaryDirectory(prefix=".export-", dir=out.parent) as scratch:
        content = Path(scratch) / "ensemble"
        content.mkdir()
        _store_code(content / "architectures")
        entries = _store_networks(content, [n for n in networks if n.weight > 0], classes=classes)
        members = {
            "format": MEMBERS_FORMAT,
            "classes": list(classes),
            "networks": entries,
            "provenance": dict(provenance),
        }
        (content / "members.json").write_text(json.dumps(members, indent=2) + "\n", encoding="utf-8")
        _save_as_mlflow_model(staging, content, classes=classes)
        (staging / CARD_FILE).write_text(full_card(card, classes=classes, networks=entries), encoding="utf-8")
        _ask_once(staging, classes=classes)
    return out


def _check_weights(networks: Sequence[ArtifactNetwork]) -> None:
    weights = [network.weight for network in networks]
    if not networks:
        raise EnsembleError("an ensemble must have a network, got 0")
    if not all(weight >= 0 for weight in weights) or abs(sum(weights) - 1) > 1e-6:
        raise EnsembleError(f"weights must be non-negative with the sum 1, got {weights}")


def _store_networks(
    folder: Path, networks: Sequence[ArtifactNetwork], *, classes: Sequence[str]
) -> list[dict[str, Any]]:
    """Copy each different file once, in float32, and say in members.json's words what it is."""
    entries: dict[str, dict[str, Any]] = {}
    for network in networks:
        spec = load_spec(network.path)
        _check_classes(spec, classes, network.path)
        digest = hashlib.sha256(network.path.read_bytes()).hexdigest()
        if digest not in entries:
            file = f"{len(entries):02d}-{network.member}-{network.role}.safetensors"
            _store_float32(network.path, folder / file, spec)
            entries[digest] = {"file": file, "weight": 0.0, "votes": [], **asdict(spec)}
        entry = entries[digest]
        entry["weight"] += network.weight
        entry["votes"].append(
            {"member": network.member, "role": network.role, "weight": network.weight, "space": network.space}
        )
    return list(entries.values())


def _store_code(folder: Path) -> None:
    folder.mkdir()
    for file in sorted(CODE_DIR.glob("*.py")):
        shutil.copyfile(file, folder / file.name)


def _check_classes(spec: NetworkSpec, classes: Sequence[str], path: Path) -> None:
    missing = sorted(set(classes) - set(spec.classes))
    if missing:
        known = ", ".join(spec.classes)
        raise ModelError(f"network must know every class, got {known} without {', '.join(missing)}: {path}")


def _store_float32(source: Path, target: Path, spec: NetworkSpec) -> None:
    """A saved model of its own, so that a later trial can start from it or blend with it."""
    tensors = load_weights(source)
    save_network(target, {name: t.float() if t.is_floating_point() else t for name, t in tensors.items()}, spec)
    target.chmod(0o644)


def _save_as_mlflow_model(folder: Path, content: Path, *, classes: Sequence[str]) -> None:
    import mlflow
    from mlflow.models import Model, ModelSignature
    from mlflow.types import ColSpec, DataType, Schema

    numbers = [ColSpec(DataType.double, name) for name in ("probability", *classes)]
    signature = ModelSignature(
        inputs=Schema([ColSpec(DataType.binary, "image")]),
        outputs=Schema([ColSpec(DataType.string, "expression"), *numbers]),
    )
    with _mlflow_settings():
        mlflow.pyfunc.save_model(
            str(folder),
            python_model=str(PREDICTOR_FILE),
            artifacts={"ensemble": str(content)},
            pip_requirements=[f"{name}=={version(name).partition('+')[0]}" for name in _REQUIREMENTS],
            signature=signature,
        )
    shutil.rmtree(folder / "__pycache__", ignore_errors=True)
    model = Model.load(str(folder))
    flavor = model.flavors["python_function"]  # says where it was made, which is nobody's business and moves
    flavor["artifacts"]["ensemble"]["uri"] = "artifacts/ensemble"
    flavor["model_code_path"] = PREDICTOR_FILE.name
    model.save(str(folder / "MLmodel"))


@contextmanager
def _mlflow_settings() -> Iterator[None]:
    """No bar for copies that take no time; no uv.lock and pyproject.toml of whatever folder this runs in."""
    settings = {"MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false", "MLFLOW_UV_AUTO_DETECT": "false"}
    before = {name: os.environ.get(name) for name in settings}
    os.environ.update(settings)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*input example.*")
            yield
    finally:
        for name, value in before.items():
            os.environ.pop(name)
            if value is not None:
                os.environ[name] = value


def _ask_once(folder: Path, *, classes: Sequence[str]) -> None:
    """Load the finished folder as a user would, and let it look at one grey square."""
    probs = load_ensemble(folder).predict_decoded(np.full((1, 8, 8, 1), 128, np.uint8))
    if probs.shape != (1, len(classes)) or not abs(probs.sum() - 1) < 1e-6:
        raise ModelError(f"probabilities of the exported ensemble must sum to 1, got {probs.tolist()}: {folder}")
