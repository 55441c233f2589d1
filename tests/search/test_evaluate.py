"""Loading an exported ensemble and judging it on sources and tables."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from search.evaluate import LoadedEnsemble, evaluate_source, evaluate_table, load_ensemble, predict_files
from spaces.errors import DataError, ModelError, SearchError
from trainables.data.sources import read_source
from trainables.data.table import Faces, write_table

CLASSES = ("anger", "fear", "happiness")


def blotches(n: int) -> npt.NDArray[np.uint8]:
    """[n, 40, 40]"""
    return np.random.default_rng(0).integers(0, 256, (n, 40, 40), dtype=np.uint8)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Class folders: three faces of each of the model's classes and two of another."""
    faces = iter(blotches(11))
    for name, n in (("anger", 3), ("fear", 3), ("happiness", 3), ("neutral", 2)):
        (tmp_path / "faces" / name).mkdir(parents=True)
        for i in range(n):
            Image.fromarray(next(faces)).save(tmp_path / "faces" / name / f"{i}.png")
    return tmp_path / "faces"


@pytest.fixture(scope="module")
def ensemble(artifact: Path) -> LoadedEnsemble:
    return load_ensemble(artifact)


def test_evaluate_source_counts_the_models_classes_and_leaves_others_out(folder: Path, artifact: Path) -> None:
    evaluation = evaluate_source(artifact, read_source(folder))

    assert evaluation.n == 9
    assert evaluation.confusion.sum(axis=1).tolist() == [3, 3, 3]
    assert evaluation.left_out == {"label 'neutral'": 2}


def test_evaluate_source_judges_what_predict_answers(folder: Path, artifact: Path, ensemble: LoadedEnsemble) -> None:
    files = sorted(file for name in CLASSES for file in (folder / name).glob("*.png"))

    evaluation = evaluate_source(artifact, read_source(folder))

    preds = predict_files(ensemble, files).argmax(axis=1)
    assert evaluation.accuracy == pytest.approx(np.mean(preds == np.repeat([0, 1, 2], 3)))


def test_evaluate_source_counts_equal_images_each_time(folder: Path, artifact: Path) -> None:
    (folder / "anger" / "again.png").write_bytes((folder / "anger" / "0.png").read_bytes())

    assert evaluate_source(artifact, read_source(folder)).n == 10


def test_evaluate_source_names_an_unreadable_image(folder: Path, artifact: Path) -> None:
    (folder / "fear" / "1.png").write_bytes(b"")

    with pytest.raises(DataError, match=r"image must be readable, got none: fear/1\.png of .*--on-bad skip leaves"):
        evaluate_source(artifact, read_source(folder))


def test_evaluate_source_counts_unreadable_images_when_told_to_skip(folder: Path, artifact: Path) -> None:
    (folder / "fear" / "1.png").write_bytes(b"junk")

    evaluation = evaluate_source(artifact, read_source(folder), on_bad="skip")

    assert evaluation.n == 8
    assert evaluation.left_out == {"label 'neutral'": 2, "no image": 1}


def test_evaluate_source_draws_people_where_they_are_known(folder: Path, artifact: Path) -> None:
    rows = [f"{name}/{i}.png,{name},person{i}" for name in CLASSES for i in range(3)]
    (folder / "list.csv").write_text("\n".join(["path,label,subject", *rows]))

    evaluation = evaluate_source(artifact, read_source(folder / "list.csv"))

    assert (evaluation.interval.unit, evaluation.interval.n_units) == ("subject", 3)


def test_evaluate_source_asks_for_names_of_numbers(folder: Path, artifact: Path) -> None:
    (folder / "list.csv").write_text("path,label\nanger/0.png,2\nfear/0.png,0\n")
    source = read_source(folder / "list.csv")

    with pytest.raises(DataError, match=r"labels must be names, .* got numbers: .*--classes names them"):
        evaluate_source(artifact, source)

    assert evaluate_source(artifact, source, classes=["fear", "happiness", "anger"]).confusion.sum(axis=1).tolist() == [
        1, 1, 0,
    ]  # fmt: skip


def test_evaluate_source_takes_one_split_when_asked(folder: Path, artifact: Path) -> None:
    (folder / "list.csv").write_text("path,label,split\nanger/0.png,anger,train\nfear/0.png,fear,test\n")
    source = read_source(folder / "list.csv")

    assert evaluate_source(artifact, source, split="test").confusion.sum(axis=1).tolist() == [0, 1, 0]
    with pytest.raises(DataError, match="split 'valid' must have faces, got 0"):
        evaluate_source(artifact, source, split="valid")


def write_faces(out: Path, *, n_test: int, classes: tuple[str, ...] = CLASSES) -> Any:
    faces = blotches(12)[..., None]
    labels = (np.arange(12) % 3).astype(np.int8)
    labels[11] = -1

    def rows(some: slice, name: str) -> Faces:
        n = len(labels[some])
        return Faces(faces[some], labels[some], [f"{name}{i}" for i in range(n)], [f"{name}{i // 2}" for i in range(n)])

    parts = {"train": slice(0, 3), "valid": slice(3, 6), "test": slice(12 - n_test, 12)}
    splits = {name: rows(part, name) for name, part in parts.items()}
    return write_table(out, splits=splits, classes=classes, sources={})  # type: ignore[arg-type]


def test_evaluate_table_reads_the_sealed_test_split(artifact: Path, ensemble: LoadedEnsemble, tmp_path: Path) -> None:
    table = write_faces(tmp_path / "table", n_test=6)

    evaluation = evaluate_table(artifact, table)

    preds = ensemble.predict_decoded(blotches(12)[6:11, ..., None]).argmax(axis=1)
    assert evaluation.accuracy == pytest.approx(np.mean(preds == np.arange(6, 11) % 3))
    assert evaluation.left_out == {"no label": 1}
    assert evaluation.interval.unit == "subject"


def test_evaluate_table_maps_classes_by_name(artifact: Path, tmp_path: Path) -> None:
    table = write_faces(tmp_path / "table", n_test=6, classes=("happiness", "neutral", "anger"))

    evaluation = evaluate_table(artifact, table)

    assert evaluation.confusion.sum(axis=1).tolist() == [1, 0, 2]
    assert evaluation.left_out == {"label 'neutral'": 2, "no label": 1}


def test_evaluate_table_says_that_there_is_no_test_split(artifact: Path, tmp_path: Path) -> None:
    table = write_faces(tmp_path / "table", n_test=0)

    with pytest.raises(DataError, match="face table must have a test split to evaluate on, got none"):
        evaluate_table(artifact, table)


def test_predict_files_names_the_file_that_is_no_image(folder: Path, ensemble: LoadedEnsemble) -> None:
    junk = folder / "junk.jpg"
    junk.write_bytes(b"junk")

    with pytest.raises(DataError, match=f"image must be a picture such as JPEG or PNG, got none: {junk}"):
        predict_files(ensemble, [folder / "anger" / "0.png", junk])


def test_load_ensemble_says_what_stands_in_the_place_of_a_model(network_files: list[Path], tmp_path: Path) -> None:
    broken, other = tmp_path / "broken", tmp_path / "empty"
    for path in (broken, other):
        path.mkdir()
    (broken / "MLmodel").write_text("flavors: [")

    for path, got in (
        (tmp_path / "nothing", "got a path that does not exist"),
        (network_files[0], "got a file"),
        (other, "got a folder without MLmodel"),
        (broken, "got one whose MLmodel says otherwise"),
    ):
        with pytest.raises(ModelError, match=f"{got}.*{path}"):
            load_ensemble(path)


def test_load_ensemble_says_that_a_network_is_missing(artifact: Path, tmp_path: Path) -> None:
    import shutil

    copy = tmp_path / "model"
    shutil.copytree(artifact, copy)
    next((copy / "artifacts" / "ensemble").glob("*.safetensors")).unlink()

    with pytest.raises(ModelError, match=f"model could not be loaded, .*{copy}; export it again"):
        load_ensemble(copy)


def test_registered_model_is_not_looked_up_where_nothing_was_recorded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AFFECTUNE_STORAGE", str(tmp_path / "runs"))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)

    with pytest.raises(SearchError, match=r"storage must hold MLflow's database, got no .*runs/mlflow\.db"):
        load_ensemble("models:/faces/1")

    assert list(tmp_path.iterdir()) == []
