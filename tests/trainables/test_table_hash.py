"""The content hash of a table, computed from its files."""

import json
import shutil
from pathlib import Path

import numpy as np

from trainables.data.table import FaceTable
from trainables.data.table_hash import hash_table


def test_hash_is_the_one_that_was_written(
    toy_table: FaceTable, labelled_table: FaceTable, face_table: FaceTable
) -> None:
    for table in (toy_table, labelled_table, face_table):  # without test faces, with all labels, with people
        assert hash_table(table.path) == table.info.content_hash


def test_hash_is_the_same_when_there_is_no_file_for_a_split_without_faces(toy_table: FaceTable, tmp_path: Path) -> None:
    shutil.copytree(toy_table.path, tmp_path / "table")
    (tmp_path / "table" / "test.arrow").unlink()

    assert hash_table(tmp_path / "table") == toy_table.info.content_hash


def test_hash_is_another_when_a_pixel_is(face_table: FaceTable, tmp_path: Path) -> None:
    shutil.copytree(face_table.path, tmp_path / "table")
    file = np.memmap(tmp_path / "table" / "test.arrow", np.uint8, "r+")
    file[len(file) // 2] ^= 1
    file.flush()

    assert hash_table(tmp_path / "table") != face_table.info.content_hash


def test_hash_says_nothing_of_what_is_beside_the_faces(toy_table: FaceTable, tmp_path: Path) -> None:
    shutil.copytree(toy_table.path, tmp_path / "table")
    info = tmp_path / "table" / "dataset.json"
    info.write_text(json.dumps(json.loads(info.read_text()) | {"notes": ["another"], "content_hash": "0" * 32}))

    assert hash_table(tmp_path / "table") == toy_table.info.content_hash
