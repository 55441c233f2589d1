"""The winning ensemble as a folder that MLflow loads anywhere: safetensors, members.json, and no pickle."""

import dataclasses
import hashlib
import json
import math
import os
import shutil
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

import numpy as np
import torch
from safetensors.torch import save_file

from search.artifact_files import MEMBERS_FILE
from search.evaluate import load_ensemble
from search.model_card import full_card
from search.onnx_export import write_onnx
from search.replacing import replaced_folder
from spaces.errors import EnsembleError, ModelError
from trainables.checkpoint import NetworkSpec, load_spec, load_weights, save_network
from trainables.models import architectures
from trainables.models.architectures.network import encoder_design
from trainables.outputs import new_folder, staging_folder

MEMBERS_FORMAT = 3
CARD_FILE = "MODEL_CARD.md"
ONNX_FILE = "ensemble.onnx"
PREDICTOR_FILE = Path(__file__).with_name("predictor.py")
CODE_DIR = Path(architectures.__file__).parent
"""The networks' own code, which travels with their weights."""

ENCODER = "encoder."
"""What the names of an encoder's tensors begin with."""

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
        mirror: whether it looks at mirror images too; None for as the network was saved.
        shift_px: how far it moves faces to look at them again, 0 for not; None for as the network was saved.
    """

    path: Path
    weight: float
    member: str
    role: Literal["fine_tuned", "partner"]
    space: Literal["probs", "logits"] = "probs"
    mirror: bool | None = None
    shift_px: int | None = None


def write_artifact(
    out: Path,
    *,
    networks: Sequence[ArtifactNetwork],
    classes: Sequence[str],
    card: str,
    provenance: Mapping[str, Any],
    temperature: float = 1.0,
    attachments: Mapping[str, bytes] = MappingProxyType({}),
    with_onnx: bool = False,
    replace: bool = False,
) -> Path:
    """Write an ensemble as an MLflow model folder, whole or not at all, after it has answered a first question.

    Args:
        out: a new or empty folder; with `replace` also an earlier export.
        networks: the voters; those of weight 0 are left out. What is equal is stored once: files, and the encoders of
            networks that differ in their heads alone.
        classes: names, in the order of the answer's columns.
        card: Markdown for the model card: what the ensemble was chosen from, and its honest estimate.
        provenance: what members.json shall remember of its making (JSON values).
        temperature: that the logarithms of the mixed probabilities are divided by, above 0.
        attachments: more files for the folder, such as the card's plots: name within it to content.
        with_onnx: whether the ensemble is written as one ONNX graph too, checked against the rest.
        replace: whether an earlier export makes room; it stays as it is until the new one is complete.

    Returns:
        `out`.

    Raises:
        OutputError: `out` holds something that is not to be replaced, or the disk is full.
        ModelError: a network is missing, broken, or does not know every class; or the ONNX graph answers otherwise.
        EnsembleError: there is no network, the weights are not shares, or the temperature is not above 0.
    """
    _check_vote(networks, temperature)
    with (
        _folder_to_fill(out, replace=replace) as staging,
        staging_folder(out) as scratch,
    ):
        content = scratch / "ensemble"
        content.mkdir()
        _store_code(content / "architectures")
        entries = _store_networks(content, [n for n in networks if n.weight > 0], classes=classes)
        members = {
            "format": MEMBERS_FORMAT,
            "classes": list(classes),
            "temperature": temperature,
            "networks": entries,
            "provenance": dict(provenance),
        }
        (content / MEMBERS_FILE.name).write_text(json.dumps(members, indent=2) + "\n", encoding="utf-8")
        _save_as_mlflow_model(staging, content, classes=classes)
        (staging / CARD_FILE).write_text(
            full_card(card, classes=classes, networks=entries, with_onnx=with_onnx), encoding="utf-8"
        )
        _attach(staging, attachments)
        _ask_once(staging, classes=classes)
        if with_onnx:
            write_onnx(staging, staging / ONNX_FILE)
    return out


def is_artifact(folder: Path) -> bool:
    """Whether a folder is an export of ours."""
    return (folder / "MLmodel").is_file() and (folder / MEMBERS_FILE).is_file()


def read_artifact_file(folder: Path, file: Path) -> str:
    """The text of a file of an artifact.

    Raises:
        ModelError: it is not there.
    """
    if not (folder / file).is_file():
        raise ModelError(f"model must be a folder that 'affectune export' wrote, got one without {file}: {folder}")
    return (folder / file).read_text(encoding="utf-8")


def _folder_to_fill(out: Path, *, replace: bool) -> AbstractContextManager[Path]:
    return replaced_folder(out, is_ours=is_artifact, what="an earlier export") if replace else new_folder(out)


def _check_vote(networks: Sequence[ArtifactNetwork], temperature: float) -> None:
    weights = [network.weight for network in networks]
    if not networks:
        raise EnsembleError("an ensemble must have a network, got 0")
    if not all(weight >= 0 for weight in weights) or abs(sum(weights) - 1) > 1e-6:
        raise EnsembleError(f"weights must be non-negative with the sum 1, got {weights}")
    if not 0 < temperature < math.inf:
        raise EnsembleError(f"temperature must be above 0 and finite, got {temperature}")


def _attach(folder: Path, attachments: Mapping[str, bytes]) -> None:
    for name, content in attachments.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)


def _store_networks(
    folder: Path, networks: Sequence[ArtifactNetwork], *, classes: Sequence[str]
) -> list[dict[str, Any]]:
    """Store each different network once, in float32, and say in members.json's words what it is."""
    entries: dict[tuple[str, bool, int], dict[str, Any]] = {}
    encoders: dict[str, str] = {}  # by digest, the files that hold them
    for network in networks:
        saved = load_spec(network.path)
        _check_classes(saved, classes, network.path)
        spec = _with_looks(saved, network)
        key = (hashlib.sha256(network.path.read_bytes()).hexdigest(), spec.mirror, spec.shift_px)
        if key not in entries:
            name = f"{len(entries):02d}-{network.member}-{network.role}"
            stored = _store(network.path, folder / name, spec=saved, encoders=encoders)
            entries[key] = {**stored, "weight": 0.0, "votes": [], **asdict(spec)}
        entry = entries[key]
        entry["weight"] += network.weight
        entry["votes"].append(
            {"member": network.member, "role": network.role, "weight": network.weight, "space": network.space}
        )
    return list(entries.values())


def _with_looks(spec: NetworkSpec, network: ArtifactNetwork) -> NetworkSpec:
    mirror = spec.mirror if network.mirror is None else network.mirror
    shift_px = spec.shift_px if network.shift_px is None else network.shift_px
    return dataclasses.replace(spec, mirror=mirror, shift_px=shift_px)


def _store(source: Path, target: Path, *, spec: NetworkSpec, encoders: dict[str, str]) -> dict[str, Any]:
    """Write a saved network's tensors, without the encoder where a file has it already: `file` and `encoder_from`.

    A whole network is a saved model of its own, so that a later trial can start from it or blend with it.

    Args:
        source: the saved network.
        target: the new file, without suffix.
        spec: of the saved network.
        encoders: digests of encoders to the files that hold them; a new one is added.
    """
    state = {name: _to_float32(tensor) for name, tensor in load_weights(source).items()}
    digest = _encoder_digest(spec, state)
    holder = encoders.get(digest)
    file = target.with_name(f"{target.name}.{'heads.' if holder else ''}safetensors")
    if holder:
        save_file({name: tensor for name, tensor in state.items() if not name.startswith(ENCODER)}, file)
    else:
        save_network(file, state, spec)
        encoders[digest] = file.name
    file.chmod(0o644)
    return {"file": file.name, "encoder_from": holder}


def _encoder_digest(spec: NetworkSpec, state: Mapping[str, torch.Tensor]) -> str:
    """Equal for encoders that are built alike and hold the same numbers."""
    digest = hashlib.sha256(json.dumps([spec.backbone, encoder_design(spec.design)]).encode())
    for name in sorted(name for name in state if name.startswith(ENCODER)):
        digest.update(f"{name} {tuple(state[name].shape)} {state[name].dtype}".encode())
        digest.update(state[name].contiguous().numpy().data)
    return digest.hexdigest()


def _to_float32(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.float() if tensor.is_floating_point() else tensor


def _store_code(folder: Path) -> None:
    folder.mkdir()
    for file in sorted(CODE_DIR.glob("*.py")):
        shutil.copyfile(file, folder / file.name)


def _check_classes(spec: NetworkSpec, classes: Sequence[str], path: Path) -> None:
    missing = sorted(set(classes) - set(spec.classes))
    if missing:
        known = ", ".join(spec.classes)
        raise ModelError(f"network must know every class, got {known} without {', '.join(missing)}: {path}")


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
