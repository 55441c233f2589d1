"""`affectune data`: what the commands print, and with which exit code they leave."""

import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from search.cli import main
from search.data_page import print_faces
from spaces.errors import DataError
from trainables.data.contact_sheet import write_pictures
from trainables.data.table import FaceTable, open_table


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Eight faces of each of two classes."""
    generator = np.random.default_rng(0)
    for name in ("fear", "joy"):
        (tmp_path / "faces" / name).mkdir(parents=True)
        for number in range(8):
            pixels = generator.integers(0, 256, (20, 20), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "faces" / name / f"{number}.png")
    return tmp_path / "faces"


def test_ingest_writes_a_table_and_shows_it(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = main(["data", "ingest", "--train", str(folder), "--out", str(tmp_path / "table"), "--image-px", "16"])

    printed = capsys.readouterr()
    assert code == 0
    assert open_table(tmp_path / "table").info.image_px == 16
    assert "16 faces, 16 x 16 px, grey" in printed.out
    assert "decoding: 16 images" in printed.err


def test_ingest_prints_one_document_when_asked_for_json(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--train", str(folder), "--out", str(tmp_path / "table"), "--classes", "joy, fear", "--json"]

    code = main(["data", "ingest", *words])

    printed = capsys.readouterr()
    document = json.loads(printed.out)
    assert (code, printed.err) == (0, "")
    assert document["classes"] == ["joy", "fear"]
    assert sum(document["class_counts"][split]["joy"] for split in ("train", "valid", "test")) == 8


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["--train", "gone"], 1, "affectune: source must exist, got nothing there: gone"),
        (["--train", "FACES", "--classes", "jay,fear"], 1, "did you mean 'joy'"),
        (["--train", "FACES", "--image-px", "4"], 2, "affectune: --image-px must be within 16..1024, got 4"),
        (["--train", "FACES", "--on-bad", "ignore"], 2, "'ignore' is unknown"),
        (["--train", "FACES", "--classes", "joy,joy"], 2, "--classes: must name each class once, got 'joy' twice"),
        (["--train", "FACES", "--seed", "-1"], 2, "argument --seed: must be at least 0, got -1"),
        (["--train", "FACES", "--image-px", "big"], 2, "argument --image-px: must be a whole number, got 'big'"),
        (["--train", "x" * 300], 1, "affectune: the name is too long: xxx"),
        (["--train", ""], 2, "argument --train: must name a file or folder, got ''"),
    ],
    ids=["no source", "class", "size", "word", "class twice", "seed", "no number", "long name", "no name"],
)
def test_ingest_answers_wrong_words_with_a_sentence(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], code: int, message: str
) -> None:
    words = [str(folder) if word == "FACES" else word for word in words]

    left = main(["data", "ingest", "--out", str(tmp_path / "table"), *words])

    printed = capsys.readouterr()
    assert left == code
    assert message in printed.err
    assert printed.err.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["faces"]


def test_ingest_says_nothing_but_the_sentence_when_an_image_is_bad(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "joy" / "0.png").write_bytes(b"")

    code = main(["data", "ingest", "--train", str(folder), "--out", str(tmp_path / "table")])

    printed = capsys.readouterr()
    assert (code, printed.out) == (1, "")
    assert printed.err.startswith("affectune: 1 of 16 images could not be read, first joy/0.png (0 bytes)")
    assert printed.err.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["faces"]


def test_class_names_are_shown_as_they_are(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "fear").rename(folder / "[red]fear")

    code = main(["data", "ingest", "--train", str(folder), "--out", str(tmp_path / "table"), "--workers", "1"])

    assert code == 0
    assert "[red]fear" in capsys.readouterr().out


def test_ingest_refuses_a_folder_that_holds_something(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = main(["data", "ingest", "--train", str(folder), "--out", str(folder)])

    assert code == 1
    assert f"output folder must be new or empty, got {folder}" in capsys.readouterr().err


def test_show_counts_every_split_without_opening_the_test_split(
    face_table: FaceTable, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = tmp_path / "table"
    copy.mkdir()
    for name in ("dataset.json", "train.arrow", "valid.arrow"):
        (copy / name).symlink_to(face_table.path / name)
    (copy / "test.arrow").write_bytes(b"sealed")

    code = main(["data", "show", str(copy), "--json"])

    document = json.loads(capsys.readouterr().out)
    assert code == 0
    assert document["rows"] == {"train": 240, "valid": 96, "test": 96}
    assert document["labels"]["train"]["landmarks"] == 240


def test_show_prints_labels_and_people(face_table: FaceTable, capsys: pytest.CaptureFixture[str]) -> None:
    code = main(["data", "show", str(face_table.path)])

    printed = capsys.readouterr().out
    assert code == 0
    assert "with action units" in printed
    assert "subjects" in printed
    assert face_table.info.content_hash in printed


def test_show_draws_a_sheet(face_table: FaceTable, tmp_path: Path) -> None:
    code = main(["data", "show", str(face_table.path), "--sheet", str(tmp_path / "sheet.png"), "--per-class", "5"])

    assert code == 0
    assert Image.open(tmp_path / "sheet.png").size[0] == 5 * (40 + 4) + 4
    assert [path.name for path in tmp_path.iterdir()] == ["sheet.png"]


def test_show_writes_faces_that_ingest_and_predict_can_read(face_table: FaceTable, tmp_path: Path) -> None:
    words = ["--pictures", str(tmp_path / "some"), "--per-class", "2", "--split", "valid"]

    code = main(["data", "show", str(face_table.path), *words])

    assert code == 0
    files = sorted((tmp_path / "some").rglob("*.png"))
    assert [file.parent.name for file in files] == [name for name in sorted(face_table.info.classes) for _ in range(2)]
    row = int(files[0].stem.rpartition("-")[2])
    split = face_table.split("valid")
    assert face_table.info.classes[split.expression[row]] == files[0].parent.name
    assert (np.asarray(Image.open(files[0])) == split.images[row].squeeze()).all()


def test_show_keeps_a_folder_of_pictures_that_is_there(
    face_table: FaceTable, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine.txt").write_text("mine")

    code = main(["data", "show", str(face_table.path), "--pictures", str(tmp_path)])

    assert code == 1 and "output folder must be new or empty" in capsys.readouterr().err
    assert [file.name for file in tmp_path.iterdir()] == ["mine.txt"]


def test_pictures_are_not_written_where_a_class_would_leave_their_folder(face_table: FaceTable, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"classes must have names that folders can have, got '\.\./x'"):
        write_pictures(tmp_path, face_table.split("train"), ["../x"])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--sheet", "faces.gif"], "--sheet must end in .png or .jpg, got 'faces.gif'"),
        (["--sheet", "faces.png", "--per-class", "0"], "--per-class must be within 1..100, got 0"),
    ],
    ids=["suffix", "none"],
)
def test_show_answers_wrong_words_with_a_sentence(
    face_table: FaceTable, capsys: pytest.CaptureFixture[str], words: list[str], message: str
) -> None:
    assert main(["data", "show", str(face_table.path), *words]) == 2
    assert message in capsys.readouterr().err


def test_show_of_what_is_no_table_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "show", str(tmp_path)]) == 1
    assert "face table must be a folder with dataset.json, got a folder without" in capsys.readouterr().err


def test_faces_are_drawn_in_letters(face_table: FaceTable) -> None:
    console = Console(record=True, width=80, force_terminal=True, file=io.StringIO())

    print_faces(face_table, console)

    text = console.export_text()
    assert face_table.info.classes[0] in text
    assert text.count("▀") == 22 * 11 * len(face_table.info.classes)


def test_synth_writes_generated_faces(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sizes = ["--train", "40", "--valid", "40", "--test", "40", "--image-px", "32"]

    code = main(["data", "synth", "--out", str(tmp_path / "table"), *sizes, "--json"])

    assert code == 0
    assert json.loads(capsys.readouterr().out)["rows"] == {"train": 40, "valid": 40, "test": 40}
