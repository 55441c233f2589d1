"""Folders of searches as they should not be: torn, edited, of another version. `resume`, `ensemble` and `export`."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from search.cli import main
from search.folder import SearchFolder, SearchManifest, TrialRecord
from search.state import load_state
from search.study_journal import StudyJournal
from spaces.config import TrialConfig
from spaces.loading import parse_space

if TYPE_CHECKING:
    from conftest import Answer, Mutants, Survives

    from trainables.data.table import FaceTable

pytestmark = pytest.mark.faults

SPACE = """\
name: mini
fixed: {model.backbone: test_efficientnet, model.weights: none, model.image_px: 32, train.epochs: 1}
parameters:
  optimiser.lr: {log_uniform: [1.0e-4, 1.0e-2], default: 1.0e-3}
"""
LRS = (1e-3, 2e-3)
COMMANDS = {
    "resume": ("resume", "mini"),
    "ensemble": ("ensemble", "mini", "--bags", "0"),
    "export": ("export", "mini", "--out", "model"),
    "status": ("status", "mini"),
}
N_MUTANTS = 16

Spoil = Callable[[Path], Any]


def _train(folder: SearchFolder, table: "FaceTable", number: int) -> None:
    """What a trial leaves, without training: a record, a network, and scores that are right now and then."""
    import torch

    from trainables.checkpoint import NetworkSpec, save_network
    from trainables.models.backbones import build_network
    from trainables.scores import SCORES_FILE, save_scores, split_scores
    from trainables.trainer import WEIGHTS_FILE

    valid, classes = table.split("valid"), tuple(table.info.classes)
    draw = np.random.default_rng(number)
    logits = draw.normal(size=(len(valid), len(classes))) + 1.5 * np.eye(len(classes))[valid.expression]
    lr = LRS[number]
    config = TrialConfig.from_flat({**parse_space(SPACE).to_settings({"optimiser.lr": lr})}).to_flat()
    epoch = {"epoch": 1, "best/macro_f1": 0.5, "best/epoch": 1, "valid/macro_f1": 0.5, "time/epoch_s": 2.0}
    record = TrialRecord(
        f"t{number:04d}", number, values={"optimiser.lr": lr}, config=config, end="completed",
        best_macro_f1=0.5, best_epoch=1, epochs=1, history=[epoch], wall_s=2.0,
    )  # fmt: skip
    folder.write_record(record)
    place = folder.trial_dir(record.trial_id)
    save_scores(place / SCORES_FILE, split_scores(valid, classes, logits.astype(np.float32), extras={}))
    spec = NetworkSpec("test_efficientnet", classes, 32, 40, table.info.channels, (0.5,) * 3, (0.25,) * 3)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(number)
        network = build_network(spec.backbone, n_classes=len(classes))
    save_network(place / WEIGHTS_FILE, network.state_dict(), spec)


@pytest.fixture(scope="module")
def good_storage(face_table: "FaceTable", tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A storage with a search of two trials that has ended, and its ensemble. Copied by every test."""
    storage = tmp_path_factory.mktemp("runs")
    folder = SearchFolder(storage / "mini")
    folder.path.mkdir()
    (folder.path / "space.yaml").write_text(parse_space(SPACE).to_yaml())
    manifest = SearchManifest(
        name="mini", data=str(face_table.path), content_hash=face_table.info.content_hash,
        classes=tuple(face_table.info.classes), seed=0, n_trials=2, time_budget_s=None,
        tracking_uri=f"sqlite:///{storage}/mlflow.db", status="ended", wall_s=6.0,
    )  # fmt: skip
    for number in range(len(LRS)):
        _train(folder, face_table, number)
    folder.write_manifest(manifest)
    StudyJournal(folder.path / "study.jsonl", load_state(folder, parse_space(SPACE), seed=0).sampler.events).close()
    assert main(["resume", "mini", "--storage", str(storage)]) == 0
    assert main(["ensemble", "mini", "--bags", "0", "--storage", str(storage)]) == 0
    return storage


@pytest.fixture
def search(good_storage: Path, tmp_path: Path) -> Path:
    """The folder of a copy of the search, to be spoilt."""
    shutil.copytree(good_storage / "mini", tmp_path / "runs" / "mini")
    return tmp_path / "runs" / "mini"


def _json(name: str, **fields: Any) -> Spoil:
    """Some fields of a document replaced; left out where they are `...`."""

    def spoil(folder: Path) -> None:
        document = {**json.loads((folder / name).read_text()), **fields}
        (folder / name).write_text(json.dumps({key: each for key, each in document.items() if each is not ...}))

    return spoil


def _text(name: str, content: bytes) -> Spoil:
    return lambda folder: (folder / name).write_bytes(content)


def _torn(name: str, share: float = 0.5) -> Spoil:
    def spoil(folder: Path) -> None:
        content = (folder / name).read_bytes()
        (folder / name).write_bytes(content[: int(share * len(content))])

    return spoil


def _put(name: str, put: Callable[[Path], Any]) -> Spoil:
    def spoil(folder: Path) -> None:
        (folder / name).unlink()
        put(folder / name)

    return spoil


def _inside(name: str, change: Callable[[dict[str, Any]], Any]) -> Spoil:
    def spoil(folder: Path) -> None:
        document = json.loads((folder / name).read_text())
        change(document)
        (folder / name).write_text(json.dumps(document))

    return spoil


TRIAL, ENSEMBLE = "trials/t0001/trial.json", "ensemble/ensemble.json"

ALL: dict[str, Spoil] = {
    "no search.json": lambda folder: (folder / "search.json").unlink(),
    "an empty search.json": _text("search.json", b""),
    "a torn search.json": _torn("search.json"),
    "a search.json of random bytes": _text("search.json", bytes(range(256))),
    "a search.json of a list": _text("search.json", b"[]"),
    "a deep search.json": _text("search.json", b"[" * 100_000),
    "a search.json of a newer version": _json("search.json", colour="blue"),
    "a search.json without data": _json("search.json", data=...),
    "a search.json without classes": _json("search.json", classes=...),
    "data of numbers": _json("search.json", data=7),
    "data that are gone": _json("search.json", data="/nowhere/at/all"),
    "data with a zero byte": _json("search.json", data="a\0b"),
    "another hash": _json("search.json", content_hash="0" * 32),
    "a seed of text": _json("search.json", seed="lucky"),
    "trials of text": _json("search.json", n_trials="many"),
    "seconds of text": _json("search.json", wall_s="long"),
    "a plan of text": _json("search.json", plan="to search"),
    "a search.json that nobody writes": _put("search.json", os.mkfifo),
    "a search.json that is a folder": _put("search.json", Path.mkdir),
    "a torn trial.json": _torn(TRIAL),
    "an empty trial.json": _text(TRIAL, b""),
    "a trial.json of a list": _text(TRIAL, b"[]"),
    "a trial.json of a newer version": _json(TRIAL, colour="blue"),
    "a trial.json of another trial": _json(TRIAL, trial_id="t0000", number=0),
    "a trial.json of two minds": _json(TRIAL, number=2),
    "a trial without a number": _json(TRIAL, number=...),
    "an end of nobody": _json(TRIAL, end="tired"),
    "a score of text": _json(TRIAL, best_macro_f1="good"),
    "a history of text": _json(TRIAL, history="long"),
    "a history of texts": _json(TRIAL, history=["long"]),
    "a history without epochs": _json(TRIAL, history=[{"best/macro_f1": 0.5}]),
    "a history of words": _json(TRIAL, history=[{"epoch": 1, "best/macro_f1": "good"}]),
    "a config of a list": _json(TRIAL, config=[]),
    "a trial.json that nobody writes": _put(TRIAL, os.mkfifo),
}
"""Name of a case to what is done to a search; no command goes on with it."""

OF_RESUME: dict[str, Spoil] = {
    "no space.yaml": lambda folder: (folder / "space.yaml").unlink(),
    "a torn space.yaml": _torn("space.yaml"),
    "an empty space.yaml": _text("space.yaml", b""),
    "a space.yaml of random bytes": _text("space.yaml", bytes(range(256))),
    "a space.yaml that nobody writes": _put("space.yaml", os.mkfifo),
    "a space.yaml of another search": _text("space.yaml", b"name: other\nfixed: {train.epochs: 1}\n"),
}
"""The same, where `resume` alone looks at it."""

HEALED: dict[str, Spoil] = {
    "a torn last line": _torn("study.jsonl", 0.95),
    "a torn line in the middle": lambda folder: _tear_line(folder, 1),
    "a torn first line": lambda folder: _tear_line(folder, 0),
    "no study.jsonl": lambda folder: (folder / "study.jsonl").unlink(missing_ok=True),
    "a study.jsonl of random bytes": _text("study.jsonl", bytes(range(256)) * 20),
    "a deep study.jsonl": _text("study.jsonl", b"[" * 100_000),
    "events of nobody": _text("study.jsonl", b'{"event": "sing", "trial_id": "t0000"}\n{"trial_id": 7}\n[]\n7\n'),
    "events without values": _text("study.jsonl", b'{"event": "ask", "trial_id": "t0000"}\n'),
    "events of odd values": _text("study.jsonl", b'{"event": "ask", "trial_id": "t0000", "values": {"x": 1}}\n'),
    "events of odd trials": _text("study.jsonl", b'{"event": "ask", "trial_id": "../x", "values": {}}\n'),
    "a summary.json that is none": _text("summary.json", b"{"),
}
"""Damage that `resume` of a search which has ended finds its way through."""

OF_EXPORT: dict[str, Spoil] = {
    "no ensemble.json": lambda folder: (folder / ENSEMBLE).unlink(),
    "an empty ensemble.json": _text(ENSEMBLE, b""),
    "a torn ensemble.json": _torn(ENSEMBLE),
    "an ensemble.json of a list": _text(ENSEMBLE, b"[]"),
    "a deep ensemble.json": _text(ENSEMBLE, b"[" * 100_000),
    "an ensemble of an earlier version": _json(ENSEMBLE, voters=...),
    "voters of text": _json(ENSEMBLE, voters="all"),
    "voters of nobody": _json(ENSEMBLE, voters={}),
    "networks that climb": _inside(ENSEMBLE, lambda found: _networks(found, path="../../x.safetensors")),
    "networks that are gone": _inside(ENSEMBLE, lambda found: _networks(found, path="/nowhere.safetensors")),
    "networks of odd weights": _inside(ENSEMBLE, lambda found: _networks(found, weight=7.0)),
    "networks of weights that are no numbers": _inside(ENSEMBLE, lambda found: _networks(found, weight=float("nan"))),
    "networks of odd roles": _inside(ENSEMBLE, lambda found: _networks(found, role="king")),
    "no options": _json(ENSEMBLE, options=[]),
    "options of text": _json(ENSEMBLE, options="many"),
    "options of numbers": _json(ENSEMBLE, options=[1]),
    "an option of another make": _inside(ENSEMBLE, lambda found: found["options"][0].update(colour="blue", ms="slow")),
    "no option chosen": _inside(
        ENSEMBLE, lambda found: [option.update(is_chosen=False) for option in found["options"]]
    ),
    "a temperature of 0": _inside(
        ENSEMBLE, lambda found: [option.update(temperature=0.0) for option in found["options"]]
    ),
    "classes of numbers": _json(ENSEMBLE, classes=[1, 2]),
    "classes of others": _json(ENSEMBLE, classes=["envy", "greed"]),
    "no scores": _json(ENSEMBLE, scores=...),
    "scores of text": _json(ENSEMBLE, scores="good"),
    "scores of another make": _json(ENSEMBLE, scores={"ensemble": {"valid": "good"}}),
    "a method of nobody": _json(ENSEMBLE, method="luck"),
    "notes of numbers": _json(ENSEMBLE, notes=[1]),
    "a confusion of text": _json(ENSEMBLE, confusion="total"),
    "a ragged confusion": _json(ENSEMBLE, confusion=[[1], [2, 3]]),
    "a curve of text": _json(ENSEMBLE, curve="steep"),
    "a curve of two lengths": _json(ENSEMBLE, curve={"weight": [0, 1], "exact": [0], "smoothed": [0]}),
    "a calibration of text": _json(ENSEMBLE, calibration="fine"),
    "no run": _json(ENSEMBLE, run_key=...),
    "a summary.json that is none": _text("summary.json", b"{"),
    "a summary.json of a list": _text("summary.json", b"[]"),
    "weights cut in half": lambda folder: [
        _torn(str(file.relative_to(folder)))(folder) for file in folder.rglob("*.safetensors")
    ],
    "weights of nothing": lambda folder: [file.write_bytes(b"") for file in folder.rglob("*.safetensors")],
    "weights that are gone": lambda folder: [file.unlink() for file in folder.rglob("*.safetensors")],
}
"""What `export` refuses of an ensemble."""

OF_ENSEMBLE: dict[str, Spoil] = {
    "scores of nothing": lambda folder: [file.write_bytes(b"") for file in folder.rglob("valid.arrow")],
    "scores cut in half": lambda folder: [
        _torn(str(file.relative_to(folder)))(folder) for file in folder.rglob("valid.arrow")
    ],
    "weights that are gone": lambda folder: [file.unlink() for file in folder.rglob("*.safetensors")],
    "weights of nothing": lambda folder: [file.write_bytes(b"") for file in folder.rglob("*.safetensors")],
    "configs of nobody": lambda folder: [
        _json(f"trials/t{i:04d}/trial.json", config={"colour": "blue"})(folder) for i in range(2)
    ],
    "a summary.json that is none": _text("summary.json", b"{"),
}
"""What `ensemble` refuses."""


def _tear_line(folder: Path, number: int) -> None:
    lines = (folder / "study.jsonl").read_bytes().splitlines(keepends=True)
    lines[number] = lines[number][: len(lines[number]) // 2] + b"\n"
    (folder / "study.jsonl").write_bytes(b"".join(lines))


def _networks(ensemble: dict[str, Any], **fields: Any) -> None:
    for voter in ensemble["voters"].values():
        for network in voter["networks"]:
            network.update(fields)


def run(
    survives: "Survives", command: str, *, codes: tuple[int, ...], writes: tuple[str, ...] = (), limit_s: int = 10
) -> "Answer":
    """Run a command on the search; but for the lock it writes nothing where it fails."""
    return survives(
        *COMMANDS[command], "--storage", "runs", codes=codes, writes=("runs/mini/lock", *writes), limit_s=limit_s
    )


@pytest.mark.parametrize("command", ["resume", "ensemble", "export"])
@pytest.mark.parametrize("case", list(ALL))
def test_command_refuses_a_search_that_is_broken(case: str, command: str, search: Path, survives: "Survives") -> None:
    ALL[case](search)

    run(survives, command, codes=(1,))


@pytest.mark.parametrize("case", list(OF_RESUME))
def test_resume_refuses_a_search_whose_space_is_broken(case: str, search: Path, survives: "Survives") -> None:
    OF_RESUME[case](search)

    run(survives, "resume", codes=(1, 2))


@pytest.mark.parametrize("case", list(HEALED))
def test_resume_finds_its_way_through_a_damaged_journal(case: str, search: Path, survives: "Survives") -> None:
    HEALED[case](search)

    run(survives, "resume", codes=(0,), writes=("runs/mini/(search.json|study.jsonl|tracking.*)",))


@pytest.mark.parametrize("case", list(OF_EXPORT))
def test_export_refuses_an_ensemble_that_is_broken(case: str, search: Path, survives: "Survives") -> None:
    OF_EXPORT[case](search)

    run(survives, "export", codes=(1,))


@pytest.mark.parametrize("case", list(OF_ENSEMBLE))
def test_ensemble_refuses_trials_that_are_broken(case: str, search: Path, survives: "Survives") -> None:
    OF_ENSEMBLE[case](search)

    run(survives, "ensemble", codes=(1,), writes=("runs/mini/tracking.*",), limit_s=60)


@pytest.mark.parametrize("seed", range(N_MUTANTS))
def test_export_judges_a_search_that_was_damaged(
    seed: int, search: Path, damage: Callable[[Path, int], str], survives: "Survives"
) -> None:
    damage(search / (ENSEMBLE, "search.json", TRIAL, "summary.json")[seed % 4], seed // 4)

    answer = run(
        survives, "export", codes=(0, 1), writes=("model(/.*)?", "runs/mini/(summary.json|tracking.*)"), limit_s=60
    )

    assert answer.code == 0 or not Path("model").exists()


@pytest.mark.parametrize("name", ["../mini", "mini/..", "/etc", "", ".", "x" * 5000, "mi\nni"])
def test_commands_take_plain_names_alone(name: str, search: Path, survives: "Survives") -> None:
    survives("export", name, "--out", "model", "--storage", "runs", codes=(1, 2))


@pytest.mark.parametrize("name", ["search.json", TRIAL, ENSEMBLE, "summary.json"])
@pytest.mark.parametrize("command", ["export", "status"])
def test_command_judges_a_search_of_which_a_part_is_another(
    name: str, command: str, search: Path, mutants: "Mutants", survives: "Survives"
) -> None:
    good = (search / name).read_text()
    for what, mutant in mutants(json.loads(good), N_MUTANTS):
        print(what)
        shutil.rmtree("model", ignore_errors=True)
        (search / name).write_text(json.dumps(mutant))
        run(survives, command, codes=(0, 1), writes=("model(/.*)?", "runs/mini/(summary.json|tracking.*)"), limit_s=60)
