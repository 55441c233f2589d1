"""Exported ensembles as they should not be: `predict` refuses them in a sentence, and leaves them as they are."""

import json
import os
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file

if TYPE_CHECKING:
    from conftest import Mutants, Survives

pytestmark = pytest.mark.faults

ENSEMBLE = Path("artifacts", "ensemble")
N_MUTANTS = 16
NAN, INF = float("nan"), float("inf")

Spoil = Callable[[Path], Any]


def _members(change: Callable[[dict[str, Any]], Any]) -> Spoil:
    """members.json, changed in place."""

    def spoil(model: Path) -> None:
        file = model / ENSEMBLE / "members.json"
        document = json.loads(file.read_text())
        change(document)
        file.write_text(json.dumps(document))

    return spoil


def _top(**fields: Any) -> Spoil:
    return _members(lambda members: members.update(fields))


def _network(**fields: Any) -> Spoil:
    return _members(lambda members: members["networks"][0].update(fields))


def _design(**fields: Any) -> Spoil:
    return _members(lambda members: members["networks"][0]["design"].update(fields))


def _vote(**fields: Any) -> Spoil:
    return _members(lambda members: members["networks"][0]["votes"][0].update(fields))


def _without(*names: str) -> Spoil:
    def change(members: dict[str, Any]) -> None:
        part: Any = members
        for name in names[:-1]:
            part = part[int(name) if name.isdigit() else name]
        del part[names[-1]]

    return _members(change)


def _content(name: str, content: bytes) -> Spoil:
    return lambda model: (model / name).write_bytes(content)


def _weights_file(model: Path) -> Path:
    return next((model / ENSEMBLE).glob("*.safetensors"))


def _weights(change: Callable[[bytes], bytes]) -> Spoil:
    return lambda model: _weights_file(model).write_bytes(change(_weights_file(model).read_bytes()))


def _tensors(change: Callable[[dict[str, torch.Tensor]], Any]) -> Spoil:
    """The tensors of a network, changed in place."""

    def spoil(model: Path) -> None:
        tensors = load_file(_weights_file(model))
        change(tensors)
        save_file(tensors, _weights_file(model))

    return spoil


def _mlmodel(old: str, new: str) -> Spoil:
    def spoil(model: Path) -> None:
        text = (model / "MLmodel").read_text()
        assert old in text
        (model / "MLmodel").write_text(text.replace(old, new))

    return spoil


def _put(name: str, put: Callable[[Path], Any]) -> Spoil:
    def spoil(model: Path) -> None:
        (model / name).unlink()
        put(model / name)

    return spoil


HEAD = "heads.linear.weight"
MEMBERS = str(ENSEMBLE / "members.json")

SPOILT: dict[str, Spoil] = {
    "no MLmodel": lambda model: (model / "MLmodel").unlink(),
    "an empty MLmodel": _content("MLmodel", b""),
    "a torn MLmodel": _mlmodel("artifacts/ensemble\n    cloud", "artifacts: [\n    cloud"),
    "a MLmodel of text": _content("MLmodel", b"model"),
    "a MLmodel of a list": _content("MLmodel", b"[1]"),
    "a MLmodel of random bytes": _content("MLmodel", bytes(range(256))),
    "a deep MLmodel": _content("MLmodel", b"a: " + b"[" * 20_000),
    "a MLmodel that builds objects": _content("MLmodel", b"!!python/object/apply:os.system ['true']"),
    "a MLmodel of another flavor": _mlmodel("python_function:", "sklearn:"),
    "a MLmodel of another loader": _mlmodel("mlflow.pyfunc.loaders.code_model", "mlflow.sklearn"),
    "a MLmodel that loads a pickle": _mlmodel("model_code_path: predictor.py", "python_model: python_model.pkl"),
    "a MLmodel of other code": _mlmodel("model_code_path: predictor.py", "model_code_path: ../evil.py"),
    "a MLmodel with code": _mlmodel("code: null", "code: ../.."),
    "a MLmodel that climbs": _mlmodel("path: artifacts/ensemble", "path: ../../etc"),
    "no predictor": lambda model: (model / "predictor.py").unlink(),
    "a predictor that is no code": _content("predictor.py", b"def ("),
    "no members": lambda model: (model / MEMBERS).unlink(),
    "empty members": _content(MEMBERS, b""),
    "torn members": _content(MEMBERS, b'{"format": 3, "classes": ["an'),
    "members of a list": _content(MEMBERS, b"[]"),
    "members of text": _content(MEMBERS, b'"members"'),
    "deep members": _content(MEMBERS, b"[" * 100_000),
    "members of random bytes": _content(MEMBERS, bytes(range(256))),
    "no classes": _without("classes"),
    "classes of numbers": _top(classes=[1, 2, 3]),
    "classes that are text": _top(classes="anger"),
    "a class twice": _top(classes=["anger", "anger", "fear"]),
    "a class that no network knows": _top(classes=["anger", "fear", "envy"]),
    "classes of nothing": _top(classes=[]),
    "a temperature of 0": _top(temperature=0),
    "a temperature below 0": _top(temperature=-1.0),
    "a temperature that is no number": _top(temperature=NAN),
    "an infinite temperature": _top(temperature=INF),
    "a temperature of text": _top(temperature="hot"),
    "no temperature": _without("temperature"),
    "no networks": _top(networks=[]),
    "networks of text": _top(networks="all"),
    "networks of numbers": _top(networks=[1]),
    "networks that are a mapping": _top(networks={"a": 1}),
    "no file": _without("networks", "0", "file"),
    "a file that is not there": _network(file="nothing.safetensors"),
    "a file that climbs": _network(file="../../MLmodel.safetensors"),
    "a file of the machine": _network(file="/etc/passwd"),
    "a file of numbers": _network(file=7),
    "members as weights": _network(file="members.json"),
    "an encoder of nobody": _network(encoder_from="nothing.safetensors"),
    "an encoder of its own": _network(encoder_from="00-t0000-fine_tuned.safetensors"),
    "no votes": _network(votes=[]),
    "votes of text": _network(votes="many"),
    "a vote of half": _vote(weight=0.5),
    "a vote of two": _vote(weight=2.0),
    "a vote below 0": _vote(weight=-1.0),
    "a vote that is no number": _vote(weight=NAN),
    "a vote of text": _vote(weight="all"),
    "a vote of an odd space": _vote(space="feelings"),
    "no backbone": _without("networks", "0", "backbone"),
    "a backbone of nobody": _network(backbone="resnet_of_nobody"),
    "another backbone": _network(backbone="test_resnet"),
    "a backbone of numbers": _network(backbone=7),
    "a backbone on the hub": _network(backbone="hf-hub:nobody/nothing"),
    "a backbone that climbs": _network(backbone="local-dir:../.."),
    "images of nothing": _network(image_px=0),
    "huge images": _network(image_px=10**9),
    "images of text": _network(image_px="big"),
    "faces of half a pixel": _network(table_px=40.5),
    "two channels": _network(channels=2),
    "a mean too few": _network(mean=[0.5]),
    "a mean that is no number": _network(mean=[NAN, 0.5, 0.5]),
    "a std of 0": _network(std=[0.0, 0.25, 0.25]),
    "a std of text": _network(std=["a", "b", "c"]),
    "a move of 1000 pixels": _network(shift_px=1000),
    "a move below 0": _network(shift_px=-1),
    "no design": _without("networks", "0", "design"),
    "a design of nothing": _network(design={}),
    "a design of another make": _design(colour="blue"),
    "an encoder of another make": _design(encoder="transformer"),
    "a huge design": _design(head_width=10**9),
    "a design of a thousand heads": _design(encoder="dan", attention_heads=1000),
    "another design": _design(encoder="dan"),
    "a hand rule of text": _network(hand_rule="always"),
    "a hand rule of nobody": _network(hand_rule={"target": "anger"}),
    "classes of a network too many": _network(classes=["anger", "fear", "happiness", "sadness"]),
    "no weights": lambda model: _weights_file(model).unlink(),
    "empty weights": _weights(lambda content: b""),
    "weights of 4 bytes": _weights(lambda content: content[:4]),
    "weights cut in half": _weights(lambda content: content[: len(content) // 2]),
    "weights cut by a byte": _weights(lambda content: content[:-1]),
    "weights and more": _weights(lambda content: content + bytes(100)),
    "a header without end": _weights(lambda content: struct.pack("<Q", 2**63) + content[8:]),
    "a header of 100 MB": _weights(lambda content: struct.pack("<Q", 10**8) + content[8:]),
    "a header of nothing": _weights(lambda content: struct.pack("<Q", 0) + content[8:]),
    "a header of text": _weights(lambda content: content[:8] + b"x" * 100 + content[108:]),
    "weights that are a pickle": _weights(lambda content: b"\x80\x04\x95" + content[3:]),
    "a tensor too few": _tensors(lambda tensors: tensors.pop(HEAD)),
    "a tensor too many": _tensors(lambda tensors: tensors.update(more=torch.zeros(3))),
    "a tensor of another shape": _tensors(lambda tensors: tensors.update({HEAD: torch.zeros(3, 7)})),
    "a tensor without numbers": _tensors(lambda tensors: tensors.update({HEAD: torch.zeros(0)})),
    "weights that are no numbers": _tensors(lambda tensors: tensors[HEAD].fill_(NAN)),
    "infinite weights": _tensors(lambda tensors: tensors[HEAD].fill_(INF)),
    "no code": lambda model: shutil.rmtree(model / ENSEMBLE / "architectures"),
    "code that is none": _content(str(ENSEMBLE / "architectures" / "ensemble.py"), b"def ("),
    "empty code": _content(str(ENSEMBLE / "architectures" / "ensemble.py"), b""),
    "members that nobody writes": _put(MEMBERS, os.mkfifo),
    "members without end": _put(MEMBERS, lambda path: path.symlink_to("/dev/zero")),
    "members that link to themselves": _put(MEMBERS, lambda path: path.symlink_to(path)),
    "a MLmodel that nobody writes": _put("MLmodel", os.mkfifo),
    "members that are a folder": _put(MEMBERS, Path.mkdir),
    "no model": shutil.rmtree,
    "an empty folder": lambda model: [shutil.rmtree(model), model.mkdir()],
    "a file": lambda model: [shutil.rmtree(model), model.write_text("model")],
    "a pipe": lambda model: [shutil.rmtree(model), os.mkfifo(model)],
}
"""Name of a case to what is done to a good model."""


@pytest.fixture
def model(good_model: Path, tmp_path: Path) -> Path:
    """A copy of a good model, to be spoilt."""
    return Path(shutil.copytree(good_model, tmp_path / "model"))


@pytest.mark.parametrize("case", list(SPOILT))
def test_predict_refuses_a_spoilt_model(case: str, model: Path, face: Path, survives: "Survives") -> None:
    SPOILT[case](model)

    answer = survives("predict", model, face, codes=(1,))

    assert answer.out == ""


@pytest.mark.parametrize("seed", range(N_MUTANTS))
def test_predict_judges_a_model_that_was_damaged(
    seed: int, model: Path, face: Path, damage: Callable[[Path, int], str], survives: "Survives"
) -> None:
    files = (model / MEMBERS, _weights_file(model), model / "MLmodel")
    damage(files[seed % 5 % 3], seed)

    survives("predict", model, face, codes=(0, 1))


@pytest.mark.parametrize("case", ["a temperature of 0", "no weights", "a torn MLmodel", "no members"])
def test_evaluate_refuses_a_spoilt_model(case: str, model: Path, face: Path, survives: "Survives") -> None:
    SPOILT[case](model)
    Path("faces.csv").write_text(f"path,label\n{face.relative_to(Path.cwd())},anger\n")

    survives("evaluate", model, "--source", "faces.csv", codes=(1,))


def test_predict_judges_a_model_of_which_a_part_is_another(
    model: Path, face: Path, mutants: "Mutants", survives: "Survives"
) -> None:
    for file, read, write in (
        (model / MEMBERS, json.loads, json.dumps),
        (model / "MLmodel", yaml.safe_load, yaml.dump),
    ):
        good = file.read_text()
        for what, mutant in mutants(read(good), N_MUTANTS):
            print(what)
            file.write_text(write(mutant))
            survives("predict", model, face, codes=(0, 1))
        file.write_text(good)
