"""Versions in MLflow's registry: each is kept, and the best one is the champion."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from search.evaluate import load_ensemble
from search.registry import Registration, register_artifact
from spaces.errors import ModelError, TrackingError
from trainables.data.table import Faces, FaceTable, write_table
from trainables.metrics import macro_f1

CLASSES = ("anger", "fear", "happiness")

Make = Callable[..., Path]
Register = Callable[..., Registration]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A registry for all tests here; each has a model of its own."""
    return f"sqlite:///{tmp_path_factory.mktemp('store')}/mlflow.db"


@pytest.fixture
def client(store: str) -> Any:
    import mlflow

    return mlflow.MlflowClient(tracking_uri=store, registry_uri=store)


@pytest.fixture
def name(request: pytest.FixtureRequest) -> str:
    return str(request.node.name).replace("[", "-").strip("]")


@pytest.fixture
def register(store: str, name: str) -> Register:
    def go(out: Path, **options: Any) -> Registration:
        return register_artifact(out, name, store, **options)

    return go


@pytest.fixture
def make(artifact: Path, tmp_path: Path) -> Make:
    """The artifact anew, with another provenance."""

    def go(score: float | None = None, *, classes: tuple[str, ...] = CLASSES, **provenance: Any) -> Path:
        out = tmp_path / f"model-{len(list(tmp_path.iterdir()))}"
        shutil.copytree(artifact, out)
        if score is not None:
            provenance["estimate"] = {"score": score, "low": score - 0.03, "high": score + 0.02}
        file = out / "artifacts" / "ensemble" / "members.json"
        members = json.loads(file.read_text())
        file.write_text(json.dumps({**members, "classes": list(classes), "provenance": provenance}))
        return out

    return go


def write_faces(out: Path, valid: npt.NDArray[np.uint8], *, train: npt.NDArray[np.uint8] | None = None) -> FaceTable:
    """A table whose labels go round; two faces in a row are of one person."""

    def faces(pixels: npt.NDArray[np.uint8], name: str) -> Faces:
        ids = range(len(pixels))
        labels = (np.arange(len(pixels)) % 3).astype(np.int8)
        return Faces(pixels, labels, [f"{name}{i}" for i in ids], [f"{name}{i // 2}" for i in ids])

    some = noise(3, seed=99) if train is None else train
    return write_table(
        out, splits={"train": faces(some, "train"), "valid": faces(valid, "valid")}, classes=CLASSES, sources={}
    )


def noise(n: int, *, seed: int) -> npt.NDArray[np.uint8]:
    """[n, 40, 40, 1]"""
    return np.random.default_rng(seed).integers(0, 256, (n, 40, 40, 1), dtype=np.uint8)


def champion_of(client: Any, name: str) -> str:
    return str(client.get_registered_model(name).aliases["champion"])


def score_of(artifact: Path, faces: npt.NDArray[np.uint8], labels: npt.NDArray[np.intp]) -> float:
    preds = load_ensemble(artifact).predict_decoded(faces).argmax(axis=1)
    return macro_f1(labels, preds, len(CLASSES))


def test_register_artifact_says_that_the_server_does_not_answer(artifact: Path) -> None:
    with pytest.raises(TrackingError, match="must answer"):
        register_artifact(artifact, "faces", "http://127.0.0.1:9")


def test_register_artifact_refuses_a_folder_that_is_no_artifact(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"that 'affectune export' wrote, got one without .*members\.json: /"):
        register_artifact(tmp_path, "faces", f"sqlite:///{tmp_path}/mlflow.db")

    assert list(tmp_path.iterdir()) == []


def test_first_version_is_the_champion(make: Make, register: Register, client: Any, name: str) -> None:
    found = register(make(0.6, data_hash="a"))

    assert found == Registration(
        "1", True, "version 1 is the first champion, with an honest estimate of 0.600 (0.570 to 0.620)"
    )
    assert champion_of(client, name) == "1"


def test_version_carries_its_estimate_and_the_first_section_of_its_card(
    make: Make, register: Register, client: Any, name: str
) -> None:
    register(make(0.6, data_hash="a"))

    version = client.get_model_version(name, "1")
    assert version.tags == {
        "affectune.estimate": "0.6",
        "affectune.estimate_low": "0.57",
        "affectune.estimate_high": "0.62",
        "affectune.data_hash": "a",
    }
    assert version.description == "Chosen from the trials of a test."


def test_register_artifact_says_that_the_registry_refuses_a_name(artifact: Path, store: str) -> None:
    with pytest.raises(
        TrackingError, match=r"model 'a/b' could not be registered, .*cannot contain '/' or ':'.*: sqlite"
    ):
        register_artifact(artifact, "a/b", store)


@pytest.mark.slow
def test_champion_loads_by_its_alias_and_nothing_global_has_changed(
    artifact: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import mlflow

    store = f"sqlite:///{tmp_path}/mlflow.db"
    monkeypatch.chdir(tmp_path)
    before = mlflow.get_tracking_uri(), mlflow.get_registry_uri()

    versions = [register_artifact(artifact, "faces", store).version for _ in range(2)]

    assert (mlflow.get_tracking_uri(), mlflow.get_registry_uri()) == before
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store)
    assert load_ensemble("models:/faces@champion").classes == CLASSES
    mlflow.set_tracking_uri(before[0])
    assert versions == ["1", "2"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mlartifacts", "mlflow.db"]


@pytest.mark.parametrize(
    ("score", "champion", "reason"),
    [
        (
            0.61,
            "2",
            "version 2 is the champion now: version 2 has an honest estimate of 0.610 (0.580 to 0.630), "
            "version 1 has an honest estimate of 0.600 (0.570 to 0.620) on the same data",
        ),
        (
            0.6,
            "1",
            "version 1 stays the champion: version 2 has an honest estimate of 0.600 (0.570 to 0.620), version 1 has "
            "an honest estimate of 0.600 (0.570 to 0.620) on the same data; --force makes version 2 the champion",
        ),
    ],
    ids=["better", "equal"],
)
def test_champion_is_replaced_only_by_a_better_estimate_on_the_same_data(
    score: float, champion: str, reason: str, make: Make, register: Register, client: Any, name: str
) -> None:
    register(make(0.6, data_hash="a"))

    found = register(make(score, data_hash="a"))

    assert found == Registration("2", champion == "2", reason)
    assert champion_of(client, name) == champion


def test_champion_is_replaced_by_force(make: Make, register: Register, client: Any, name: str) -> None:
    register(make(0.6, data_hash="a"))

    found = register(make(data_hash="b"), force=True)

    assert found.reason == "version 2 is the champion now instead of version 1, by force, with no honest estimate"
    assert champion_of(client, name) == "2"


def test_champion_is_not_replaced_by_a_version_without_an_estimate(make: Make, register: Register) -> None:
    register(make())

    found = register(make())

    assert not found.is_champion
    assert found.reason == (
        "version 1 stays the champion, since version 2 has no honest estimate; --force makes version 2 the champion"
    )


def test_champion_without_an_estimate_is_not_compared_on_the_same_data(make: Make, register: Register) -> None:
    register(make(data_hash="a"))

    found = register(make(0.9, data_hash="a"))

    assert not found.is_champion
    assert "since version 1 was chosen on the same data and has no honest estimate" in found.reason


@pytest.mark.parametrize("above", [0.01, -0.01], ids=["better", "worse"])
def test_champion_of_other_data_is_scored_on_the_new_validation_faces(
    above: float, make: Make, register: Register, artifact: Path, tmp_path: Path
) -> None:
    faces = noise(24, seed=0)
    table = write_faces(tmp_path / "table", faces)
    score = score_of(artifact, faces, np.arange(24) % 3)
    register(make(0.99, data_hash="other"))

    found = register(make(score + above, data_hash=table.info.content_hash), table=table)

    assert found.is_champion == (above > 0)
    assert f"version 1 has {score:.3f} on 24 validation faces of the new data, of which it may know some" in (
        found.reason
    )


def test_champion_of_other_data_is_not_scored_on_people_that_it_knows(
    make: Make, register: Register, artifact: Path, tmp_path: Path
) -> None:
    faces = noise(24, seed=0)
    table = write_faces(tmp_path / "new", faces)
    own = write_faces(tmp_path / "own", faces[:1], train=np.concatenate([noise(5, seed=1), faces[5:6]]))
    score = score_of(artifact, faces[[2, 3, *range(6, 24)]], np.array([2, 3, *range(6, 24)]) % 3)
    register(make(0.99, data=str(own.path), data_hash=own.info.content_hash))

    found = register(make(score + 0.01, data_hash=table.info.content_hash), table=table)

    assert found.is_champion
    assert found.reason.endswith(f"version 1 has {score:.3f} on 20 validation faces of the new data")


def test_champion_of_other_data_stays_when_it_knows_all_faces_of_a_class(
    make: Make, register: Register, tmp_path: Path
) -> None:
    faces = noise(4, seed=0)
    table = write_faces(tmp_path / "new", faces)
    own = write_faces(tmp_path / "own", noise(3, seed=1), train=faces[2:3])
    register(make(0.1, data=str(own.path), data_hash=own.info.content_hash))

    found = register(make(0.9, data_hash=table.info.content_hash), table=table)

    assert not found.is_champion
    assert "since it knows all validation faces of happiness already; --force" in found.reason


def test_champion_of_other_data_stays_where_the_new_data_are_not_at_hand(
    make: Make, register: Register, tmp_path: Path
) -> None:
    table = write_faces(tmp_path / "table", noise(6, seed=0))
    register(make(0.1, data_hash="other"))

    without = register(make(0.9, data_hash="new"))
    another = register(make(0.9, data_hash="new"), table=table)

    assert "since it has to be scored on the data of version 2, and there is none; --force" in without.reason
    assert f"of version 3, and {table.path} holds other faces now; --force" in another.reason
    assert not without.is_champion and not another.is_champion


def test_champion_of_other_data_stays_when_its_files_are_gone(
    make: Make, register: Register, client: Any, name: str, tmp_path: Path
) -> None:
    table = write_faces(tmp_path / "table", noise(6, seed=0))
    register(make(0.1, data_hash="other"))
    shutil.rmtree(client.get_model_version_download_uri(name, "1").removeprefix("file://"))

    found = register(make(0.9, data_hash=table.info.content_hash), table=table)

    assert not found.is_champion
    assert "version 1 stays the champion, since it could not be loaded, " in found.reason


def test_champion_of_other_classes_stays(make: Make, register: Register, tmp_path: Path) -> None:
    table = write_faces(tmp_path / "table", noise(6, seed=0))
    register(make(0.1, data_hash="other", classes=("anger", "fear")))

    found = register(make(0.9, data_hash=table.info.content_hash), table=table)

    assert not found.is_champion
    assert "its classes are anger, fear, and those of version 2 are anger, fear, happiness; --force" in found.reason
