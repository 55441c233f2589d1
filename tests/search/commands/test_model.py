"""`affectune predict` and `affectune evaluate`, as they are typed."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from search.cli import main
from search.commands.model import _print_evaluation, _print_predictions
from search.evaluation import Tally

CLASSES = ("anger", "fear", "happiness")
EIGHT = ("neutral", "anger", "disgust", "fear", "happiness", "sadness", "surprise", "other")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Class folders with two faces each."""
    faces = np.random.default_rng(1).integers(0, 256, (6, 40, 40), dtype=np.uint8)
    for row, face in enumerate(faces):
        path = tmp_path / "faces" / CLASSES[row // 2] / f"{row}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(face).save(path)
    return tmp_path / "faces"


def test_predict_prints_one_json_document_for_files_and_folders(
    folder: Path, artifact: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = main(["predict", str(artifact), str(folder / "anger" / "0.png"), str(folder), "--json"])

    document = json.loads(capsys.readouterr().out)
    first = document["predictions"][0]
    assert code == 0
    assert document["classes"] == list(CLASSES)
    assert len(document["predictions"]) == 7
    assert first["image"] == str(folder / "anger" / "0.png")
    assert first["probability"] == max(first["probabilities"].values()) == first["probabilities"][first["expression"]]
    assert sum(first["probabilities"].values()) == pytest.approx(1)


def test_predict_prints_a_table(folder: Path, artifact: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = main(["predict", str(artifact), str(folder / "anger" / "0.png")])

    out = capsys.readouterr().out
    assert code == 0
    assert all(name in out for name in ("expression", *CLASSES))


def test_evaluate_prints_one_json_document(folder: Path, artifact: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = main(["evaluate", str(artifact), "--source", str(folder), "--json"])

    document = json.loads(capsys.readouterr().out)
    assert code == 0
    assert document["n"] == 6
    assert set(document) >= {"macro_f1", "accuracy", "interval", "per_class", "confusion", "classes", "n", "left_out"}


def test_evaluate_prints_score_classes_and_confusion(
    folder: Path, artifact: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = main(["evaluate", str(artifact), "--source", str(folder)])

    out = capsys.readouterr().out
    assert code == 0
    assert "macro-F1 0." in out
    assert "precision" in out
    assert "confusion matrix" in out


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["predict", "{model}", "{tmp}/none.png"], "image must exist, got nothing there"),
        (["predict", "{model}", "{tmp}/junk.png"], "image must be a picture such as JPEG or PNG, got none"),
        (["predict", "{model}", "{tmp}/empty"], "folder must hold images (.jpg, .jpeg, .jpe, .png, ...), got none"),
        (["predict", "{tmp}/none", "{tmp}/junk.png"], "model must be a folder that 'affectune export' wrote"),
        (["evaluate", "{tmp}/empty", "--source", "{faces}"], "model must be a folder that 'affectune export' wrote"),
        (["evaluate", "{model}", "--source", "{tmp}/none"], "source must exist, got nothing there"),
        (["evaluate", "{model}", "--source", "{tmp}/junk.png"], "source must be a folder, a .parquet or a .csv"),
    ],
    ids=["missing", "junk", "empty", "no-model", "empty-model", "no-source", "file-source"],
)
def test_bad_input_gets_one_sentence_and_exit_code_1(
    words: list[str], sentence: str, folder: Path, artifact: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "junk.png").write_bytes(b"junk")
    (tmp_path / "empty").mkdir()

    code = main([word.format(model=artifact, tmp=tmp_path, faces=folder) for word in words])

    captured = capsys.readouterr()
    lines = [line for line in captured.err.splitlines() if line.startswith("affectune: ")]
    assert code == 1
    assert captured.out == ""
    assert len(lines) == 1
    assert sentence in lines[0]


def test_evaluate_refuses_another_split_of_a_face_table(
    artifact: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "dataset.json").write_text("{}")

    code = main(["evaluate", str(artifact), "--source", str(tmp_path), "--split", "valid"])

    assert code == 2
    assert "--split must be test where the source is a face table, got valid" in capsys.readouterr().err


def test_tables_of_eight_classes_keep_names_and_numbers_whole_on_a_narrow_screen(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    labels = np.arange(80_000) % 8
    tally = Tally(EIGHT)
    tally.add(labels, labels, [None] * len(labels))
    probs = {name: 0.101 + row / 100 for row, name in enumerate(EIGHT)}

    _print_predictions([{"image": "faces/a.png", "expression": "happiness", "probabilities": probs}])
    _print_evaluation(tally.evaluation())

    predictions, confusion = (capsys.readouterr().out).split("macro-F1")
    assert {f"{value:.3f}" for value in probs.values()} <= set(predictions.split())
    assert " happiness " in predictions
    assert all(f"{name} " in confusion for name in EIGHT)
    assert confusion.count("10,000") == 16  # faces of each class, and the diagonal
    assert max(map(len, confusion.splitlines()[1:])) <= 80
