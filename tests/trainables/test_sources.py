"""Sources: class folders, Parquet and CSV, read as the same rows; what is wrong with one gets a sentence."""

import csv
import errno
import io
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from spaces.errors import DataError
from trainables.data.columns import ColumnNames
from trainables.data.decode import read_encoded
from trainables.data.source import Source
from trainables.data.sources import read_source


def png(value: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("L", (16, 16), value).save(buffer, "PNG")
    return buffer.getvalue()


def write_parquet(path: Path, columns: Mapping[str, Any], *, row_group_size: int = 2, **metadata: str) -> Path:
    table = pa.table(dict(columns)).replace_schema_metadata(metadata)
    pq.write_table(table, path, row_group_size=row_group_size)
    return path


def write_csv(path: Path, rows: Sequence[Mapping[str, Any]]) -> Path:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0].keys())
        writer.writeheader()
        writer.writerows(rows)
    return path


def touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"x")


def images_of(source: Source, *rows: int) -> list[bytes]:
    return [read_encoded(item) for item in source.iter_images(np.array(rows))]


def test_folder_gives_its_images_the_name_of_their_folder(tmp_path: Path) -> None:
    touch(tmp_path, "joy/b.PNG", "joy/deep/er/a.webp", "anger/c.jpg")
    touch(tmp_path, "anger/notes.txt", "anger/.hidden.jpg", ".git/x.png")

    source = read_source(tmp_path)

    assert list(zip(source.sample_ids, source.labels, strict=True)) == [
        ("anger/c.jpg", "anger"),
        ("joy/b.PNG", "joy"),
        ("joy/deep/er/a.webp", "joy"),
    ]
    assert source.splits is None


def test_folder_of_splits_says_which_is_which(tmp_path: Path) -> None:
    touch(tmp_path, "train/joy/a.png", "val/joy/b.png", "test/anger/c.png")

    source = read_source(tmp_path)

    assert source.labels == ["anger", "joy", "joy"]
    assert source.splits == ["test", "train", "valid"]


def test_images_beside_class_folders_are_counted(tmp_path: Path) -> None:
    touch(tmp_path, "joy/a.png", "stray.png")

    assert read_source(tmp_path).notes == [f"1 images outside the class folders left out: {tmp_path}"]


@pytest.mark.parametrize(
    ("names", "got"),
    [([], "nothing"), (["a.png"], "1 images and no folder"), (["joy/a.txt"], "no image .* in 1 folders")],
    ids=["empty", "no class", "no image"],
)
def test_folder_without_faces_says_what_is_in_it(tmp_path: Path, names: list[str], got: str) -> None:
    touch(tmp_path, *names)

    with pytest.raises(DataError, match=f"source must hold images in a folder per class, got {got}"):
        read_source(tmp_path)


def test_source_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"source must exist, got nothing there: .*gone"):
        read_source(tmp_path / "gone")


def test_source_of_another_kind_is_refused(tmp_path: Path) -> None:
    touch(tmp_path, "faces.zip")

    with pytest.raises(DataError, match=r"source must be a folder, a .parquet or a .csv file, got a file 'faces.zip'"):
        read_source(tmp_path / "faces.zip")


def test_parquet_gives_the_images_that_are_wanted(tmp_path: Path) -> None:
    faces = [png(value) for value in range(7)]
    path = write_parquet(tmp_path / "a.parquet", {"id": list("abcdefg"), "image": faces, "expression": ["joy"] * 7})

    source = read_source(path)

    assert source.sample_ids == list("abcdefg")
    assert images_of(source, 0, 3, 4, 6) == [faces[0], faces[3], faces[4], faces[6]]


def test_parquet_knows_the_structs_and_class_names_of_hugging_face(tmp_path: Path) -> None:
    features = {"label": {"names": ["fear", "joy"], "_type": "ClassLabel"}, "image": {"_type": "Image"}}
    faces = [{"bytes": png(1), "path": None}, {"bytes": None, "path": "b.png"}, {"bytes": png(3), "path": "c.png"}]
    (tmp_path / "b.png").write_bytes(png(2))
    path = write_parquet(
        tmp_path / "a.parquet", {"image": faces, "label": [1, 0, -1]},
        huggingface=json.dumps({"info": {"features": features}}),
    )  # fmt: skip

    source = read_source(path)

    assert source.labels == ["joy", "fear", None]
    assert images_of(source, 0, 1, 2) == [png(1), png(2), png(3)]
    assert source.sample_ids == ["a-000000", "a-000001", "a-000002"]


def test_parquet_folder_is_one_source_and_file_names_tell_splits(tmp_path: Path) -> None:
    write_parquet(tmp_path / "test-0.parquet", {"image": [png(1)], "label": ["joy"]})
    write_parquet(tmp_path / "train-0.parquet", {"image": [png(2), png(3)], "label": ["fear", "joy"]})

    source = read_source(tmp_path)

    assert source.splits == ["test", "train", "train"]
    assert images_of(source, 0, 2) == [png(1), png(3)]


def test_parquet_that_is_cut_off_is_refused(tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "a.parquet", {"image": [png(1)], "label": ["joy"]})
    path.write_bytes(path.read_bytes()[:100])

    with pytest.raises(DataError, match="source must be a Parquet file, got 100 bytes that are none or are cut off"):
        read_source(path)


def test_csv_paths_are_relative_to_its_folder(tmp_path: Path) -> None:
    touch(tmp_path, "faces/a.png")
    rows = [{"path": "faces/a.png", "emotion": " joy "}, {"path": "faces/b.png", "emotion": ""}]

    source = read_source(write_csv(tmp_path / "a.csv", rows))

    assert source.sample_ids == ["faces/a.png", "faces/b.png"]
    assert source.labels == ["joy", None]
    assert images_of(source, 0) == [b"x"]


def test_csv_may_come_from_a_spreadsheet(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes("\ufeffpath;label;person\r\na.png;joy;ann\r\n\r\nb.png;fear;\r\n".encode())

    source = read_source(tmp_path / "a.csv")

    assert source.labels == ["joy", "fear"]
    assert source.subjects == ["ann", None]


def test_csv_tells_every_label_there_is(tmp_path: Path) -> None:
    points = " ".join(["0.5"] * 136)
    rows = [
        {"path": "a.png", "label": "joy", "valence": "0.5", "Arousal": "-1", "AU01": 1, "au_26": 0, "hand": 1,
         "landmarks": points, "split": "val"},
        {"path": "b.png", "label": "joy", "valence": "", "Arousal": "nan", "AU01": "", "au_26": 3, "hand": "",
         "landmarks": "", "split": "Training"},
    ]  # fmt: skip

    source = read_source(write_csv(tmp_path / "a.csv", rows))

    assert source.splits == ["valid", "train"]
    assert source.extras["valence"].tolist() == pytest.approx([0.5, np.nan], nan_ok=True)
    assert source.extras["arousal"].tolist() == pytest.approx([-1, np.nan], nan_ok=True)
    assert source.extras["action_units"].tolist() == [[1] + [-1] * 10 + [0], [-1] * 11 + [3]]
    assert source.extras["hand"].tolist() == [1, -1]
    assert source.extras["landmarks"][0].tolist() == [0.5] * 136


def test_parquet_tells_lists_of_action_units_and_landmarks(tmp_path: Path) -> None:
    columns = {
        "image": [png(1), png(2)],
        "label": ["joy", "fear"],
        "action_units": [[1] * 12, None],
        "landmarks": [list(range(136)), None],
    }

    source = read_source(write_parquet(tmp_path / "a.parquet", columns))

    assert source.extras["action_units"].tolist() == [[1] * 12, [-1] * 12]
    assert source.extras["landmarks"][0, :3].tolist() == [0, 1, 2]


def test_columns_are_named_by_flags(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "a.csv", [{"where": "a.png", "what": "joy", "who": "ann", "label": "x"}])

    source = read_source(path, ColumnNames(image="where", label="what", subject="who"))

    assert (source.labels, source.subjects) == (["joy"], ["ann"])


@pytest.mark.parametrize(
    ("columns", "names", "message"),
    [
        (ColumnNames(), {"x": "a", "label": "joy"}, "have a column of images, got label, x: .*--image-column names"),
        (ColumnNames(), {"path": "a", "y": "joy"}, "have a column of labels, got path, y: .*--label-column names"),
        (ColumnNames(label="emotoin"), {"path": "a", "emotion": "joy"}, "'emotoin' must be .*did you mean 'emotion'"),
    ],
    ids=["image", "label", "named"],
)
def test_missing_column_lists_those_there_are(
    tmp_path: Path, columns: ColumnNames, names: dict[str, str], message: str
) -> None:
    path = write_csv(tmp_path / "a.csv", [names])

    with pytest.raises(DataError, match=message):
        read_source(path, columns)


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("valence", "1.5", "valence must be within -1..1, got 1.5: row 2 of .*a.csv"),
        ("arousal", "high", "arousal must be a number, got 'high': row 2 of .*a.csv"),
        ("au12", "9", "action_units must be a whole number within -1..5, got 9: row 2 of .*a.csv"),
        ("hand", "0.5", "hand must be a whole number within -1..1, got 0.5: row 2 of .*a.csv"),
        ("landmarks", "1 2 3", "landmarks must have 136 numbers, got 3: row 2 of .*a.csv"),
        ("split", "trian", "'split' must say train, valid or test, got 'trian': row 2 of .*did you mean 'train'"),
    ],
    ids=["range", "text", "action unit", "fraction", "too few", "split"],
)
def test_value_out_of_its_range_names_the_row(tmp_path: Path, column: str, value: str, message: str) -> None:
    good = "train" if column == "split" else ""
    rows = [{"path": "a.png", "label": "joy", column: good}, {"path": "b.png", "label": "joy", column: value}]
    path = write_csv(tmp_path / "a.csv", rows)

    with pytest.raises(DataError, match=message):
        read_source(path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "source must be a CSV file with a line of column names, got none"),
        ("path,label\n", "source must hold faces, got 0 rows"),
        ("path,label\na.png,joy,3\n", "source must be a CSV file with equal rows, got"),
        ("path,label,path\na,b,c\n", "column names must differ, got 'path' twice"),
    ],
    ids=["empty", "no row", "ragged", "column twice"],
)
def test_csv_that_is_none_gets_a_sentence(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "a.csv").write_text(text)

    with pytest.raises(DataError, match=message):
        read_source(tmp_path / "a.csv")


def test_parquet_with_two_columns_of_one_name_is_refused(tmp_path: Path) -> None:
    table = pa.table([[b"x"], ["joy"], ["fear"]], names=["image", "label", "label"])
    pq.write_table(table, tmp_path / "faces.parquet")

    with pytest.raises(DataError, match=r"column names must differ, got 'label' twice: .*faces\.parquet"):
        read_source(tmp_path / "faces.parquet")


@pytest.mark.parametrize("name", ["label", "subject", "valence"])
def test_column_of_lists_is_refused_where_texts_or_numbers_belong(tmp_path: Path, name: str) -> None:
    columns = {"image": [b"x"], "label": ["joy"]} | {name: [[1, 2]]}

    pq.write_table(pa.table(columns), tmp_path / "faces.parquet")

    with pytest.raises(DataError, match=rf"column '{name}' must hold texts or numbers, got list<.*faces\.parquet"):
        read_source(tmp_path / "faces.parquet")


def test_class_folder_that_can_not_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path, "joy/a.png", "fear/b.png")
    scandir = os.scandir

    def refuse(path: str | Path) -> Any:
        if Path(path).name == "joy":
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)

    with pytest.raises(DataError, match=r"folders of a source must be readable, got Permission denied: .*joy"):
        read_source(tmp_path)


def test_parquet_that_may_not_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    (tmp_path / "faces.parquet").write_bytes(b"x")
    monkeypatch.setattr(pq, "ParquetFile", refuse)

    with pytest.raises(DataError, match=r"source must be readable, got permission denied: .*faces\.parquet"):
        read_source(tmp_path / "faces.parquet")


@pytest.mark.parametrize("name", ["../x.png", "a/../../x.png", "..\\x.png", "/x.png"])
def test_csv_path_that_leads_out_of_the_folder_is_refused(tmp_path: Path, name: str) -> None:
    path = write_csv(tmp_path / "faces.csv", [{"path": "y.png", "label": "joy"}, {"path": name, "label": "joy"}])

    with pytest.raises(DataError, match=r"must stay within the folder of its source, got '.*': row 2 of .*faces\.csv"):
        read_source(path)


def test_parquet_path_that_leads_out_of_the_folder_is_refused(tmp_path: Path) -> None:
    source = read_source(write_parquet(tmp_path / "faces.parquet", {"image": ["../x.png"], "label": ["joy"]}))

    with pytest.raises(DataError, match=r"must stay within the folder of its source, got '\.\./x\.png': .*parquet"):
        images_of(source, 0)


def test_csv_of_too_many_columns_is_refused_at_once(tmp_path: Path) -> None:
    (tmp_path / "faces.csv").write_text("path,label" + ",x" * 1_000_000 + "\n")

    with pytest.raises(DataError, match=r"source must have at most 10,000 columns, got [\d,]+ or more: .*faces\.csv"):
        read_source(tmp_path / "faces.csv")


def test_csv_whose_header_has_a_line_break_is_refused(tmp_path: Path) -> None:
    (tmp_path / "faces.csv").write_text('path,label,"sub\nject"\nx.png,joy,p\n')

    with pytest.raises(DataError, match="column names must stand in the first line, each quoted whole"):
        read_source(tmp_path / "faces.csv")


@pytest.mark.parametrize("name", ["faces.csv", "faces.parquet"])
def test_source_that_is_a_pipe_is_refused_and_not_waited_for(tmp_path: Path, name: str) -> None:
    os.mkfifo(tmp_path / name)

    with pytest.raises(DataError, match=r"source must be a folder, a \.parquet or a \.csv file"):
        read_source(tmp_path / name)


def test_folder_with_links_in_a_circle_is_walked_once(tmp_path: Path) -> None:
    touch(tmp_path, "joy/a.png", "anger/b.png")
    for number in range(12):
        (tmp_path / "joy" / f"again{number}").symlink_to(tmp_path / "joy")

    assert sorted(read_source(tmp_path).sample_ids) == ["anger/b.png", "joy/a.png"]


@pytest.mark.parametrize("names", ["abc", {"0": "joy"}, [1, 2], 7], ids=["text", "mapping", "numbers", "number"])
def test_class_names_of_another_make_are_not_taken_from_metadata(tmp_path: Path, names: object) -> None:
    huggingface = json.dumps({"info": {"features": {"label": {"names": names}}}})
    path = write_parquet(tmp_path / "f.parquet", {"image": [b"x", b"y"], "label": [0, 1]}, huggingface=huggingface)

    assert read_source(path).labels == ["0", "1"]


def test_column_of_durations_is_refused_where_texts_or_numbers_belong(tmp_path: Path) -> None:
    columns = {"image": [b"x"], "label": pa.array([5], pa.duration("s"))}

    with pytest.raises(DataError, match=r"column 'label' must hold texts or numbers, got duration\[s\]"):
        read_source(write_parquet(tmp_path / "f.parquet", columns))
