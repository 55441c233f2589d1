"""Faces of another kind: read by the classes of the search, and asked about once."""

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from search.candidates import Candidate
from search.folder import SearchFolder
from search.other_faces import OTHERS_DIR, OtherFaces, probs_on_others, read_other_faces
from spaces.config import TrialConfig
from spaces.errors import DataError
from trainables.data.synth import write_synth_table
from trainables.data.table import FaceTable
from trainables.scores import Scores
from trainables.trainer import WEIGHTS_FILE

CLASSES = ("anger", "fear", "happiness")


def png(value: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("L", (24, 24), value).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture
def other_table(tmp_path: Path) -> FaceTable:
    return write_synth_table(tmp_path / "other", n_train=24, n_valid=12, n_test=12, image_px=32, seed=11)


def test_faces_of_another_table_are_those_of_train_and_valid(other_table: FaceTable, face_table: FaceTable) -> None:
    (other_table.path / "test.arrow").write_bytes(b"sealed: whoever reads this, fails")

    found = read_other_faces(other_table.path, face_table)

    splits = [other_table.split("train"), other_table.split("valid")]
    assert found.images.shape == (36, 40, 40, face_table.info.channels)
    assert found.images.dtype == np.uint8
    assert found.labels.tolist() == [label for split in splits for label in split.expression.tolist()]
    assert found.subjects == tuple(name for split in splits for name in split.subjects)
    assert (found.name, found.left_out) == (str(other_table.path), 0)


def test_own_table_is_refused(face_table: FaceTable) -> None:
    with pytest.raises(DataError) as caught:
        read_other_faces(face_table.path, face_table)

    reason = f"--also must have other faces than the search, got its own table: {face_table.path}"
    assert str(caught.value) == reason


def test_class_folders_are_mapped_by_name_and_alias(tmp_path: Path, face_table: FaceTable) -> None:
    for folder, value in (("Happy", 10), ("fear", 20), ("ANGER", 30), ("bored", 40)):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "face.png").write_bytes(png(value))
    (tmp_path / "fear" / "broken.png").write_bytes(b"no image")

    found = read_other_faces(tmp_path, face_table)

    said = [face_table.info.classes[label] for label in found.labels]
    values = [int(image.max()) for image in found.images]
    assert dict(zip(values, said, strict=True)) == {10: "happiness", 20: "fear", 30: "anger"}
    assert found.left_out == 2
    assert found.images.shape[1:] == (40, 40, face_table.info.channels)
    assert found.subjects == (None, None, None)


def test_parquet_tells_people(tmp_path: Path, face_table: FaceTable) -> None:
    columns = {
        "image": [png(value) for value in (10, 20, 30, 40)],
        "label": ["happy", "sad", None, "bored"],
        "subject": ["ann", "bob", "cem", "dia"],
    }
    pq.write_table(pa.table(columns), tmp_path / "faces.parquet")

    found = read_other_faces(tmp_path / "faces.parquet", face_table)

    assert [face_table.info.classes[label] for label in found.labels] == ["happiness", "sadness"]
    assert (found.subjects, found.left_out) == (("ann", "bob"), 2)


def test_faces_of_other_classes_alone_are_refused(tmp_path: Path, face_table: FaceTable) -> None:
    for folder in ("fear", "bored"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "face.png").write_bytes(png(20))

    with pytest.raises(DataError) as caught:
        read_other_faces(tmp_path, face_table)

    names = "anger, disgust, fear, happiness, sadness, surprise"
    rule = f"--also must have faces of two classes of the search or more ({names})"
    assert str(caught.value) == f"{rule}, got 1 faces of 1: {tmp_path}"


def test_source_that_is_not_there_is_refused(tmp_path: Path, face_table: FaceTable) -> None:
    with pytest.raises(DataError, match="source must exist, got nothing there"):
        read_other_faces(tmp_path / "nowhere", face_table)


def test_digest_tells_pixels_and_labels(tmp_path: Path, face_table: FaceTable) -> None:
    digests = []
    for name, (dark, light) in (("one", (10, 20)), ("same", (10, 20)), ("swapped", (20, 10))):
        for folder, value in (("fear", dark), ("anger", light)):
            (tmp_path / name / folder).mkdir(parents=True)
            (tmp_path / name / folder / "face.png").write_bytes(png(value))
        digests.append(read_other_faces(tmp_path / name, face_table).digest)

    assert digests[0] == digests[1] != digests[2]


@pytest.fixture
def faces() -> OtherFaces:
    images = np.random.default_rng(0).integers(0, 256, (6, 40, 40, 1), dtype=np.uint8)
    return OtherFaces("elsewhere", "abc", images, np.arange(6) % 3, ("ann",) * 3 + ("bob",) * 3, left_out=0)


@pytest.fixture
def candidates(network_files: list[Path], tmp_path: Path) -> list[Candidate]:
    """Two trials with networks of their own."""
    config = dict(TrialConfig().to_flat())
    scores = Scores(("0",), (None,), np.zeros(1, np.int8), np.zeros((1, 3), np.float32), CLASSES)
    found = []
    for number, source in enumerate(network_files[:2]):
        folder = tmp_path / "trials" / f"t000{number}"
        folder.mkdir(parents=True)
        (folder / WEIGHTS_FILE).write_bytes(source.read_bytes())
        found.append(Candidate(f"t000{number}", folder, config, scores, is_complete=True))
    return found


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Keys of the candidates that looked at faces."""
    seen: list[str] = []
    look = Candidate.probs_on

    def spied(self: Candidate, images: Any, **options: Any) -> Any:
        seen.append(self.key)
        return look(self, images, **options)

    monkeypatch.setattr(Candidate, "probs_on", spied)
    return seen


def test_candidates_are_asked_about_other_faces_once(
    tmp_path: Path, candidates: list[Candidate], faces: OtherFaces, asked: list[str]
) -> None:
    folder, told = SearchFolder(tmp_path), list[float]()

    first = probs_on_others(folder, candidates, faces, progress=told.append)
    again = probs_on_others(folder, candidates[::-1], faces)

    assert asked == ["t0000", "t0001"]
    assert told == [0.5, 1.0]
    assert first == pytest.approx(np.stack([one.probs_on(faces.images) for one in candidates]))
    assert again == pytest.approx(first[::-1], abs=1e-6)
    kept = sorted(file.name[:5] for file in (tmp_path / "ensemble" / OTHERS_DIR / "abc").iterdir())
    assert kept == ["t0000", "t0001"]


def test_answers_are_not_used_again_when_weights_or_faces_changed(
    tmp_path: Path, candidates: list[Candidate], faces: OtherFaces, asked: list[str], network_files: list[Path]
) -> None:
    folder = SearchFolder(tmp_path)
    before = probs_on_others(folder, candidates[:1], faces)

    (candidates[0].folder / WEIGHTS_FILE).write_bytes(network_files[1].read_bytes())
    other_weights = probs_on_others(folder, candidates[:1], faces)
    probs_on_others(folder, candidates[:1], OtherFaces(**{**vars(faces), "digest": "def"}))

    assert len(asked) == 3
    assert abs(other_weights - before).max() > 1e-3


def test_answers_that_were_kept_broken_are_made_again(
    tmp_path: Path, candidates: list[Candidate], faces: OtherFaces, asked: list[str]
) -> None:
    folder = SearchFolder(tmp_path)
    before = probs_on_others(folder, candidates[:1], faces)
    (file,) = (tmp_path / "ensemble" / OTHERS_DIR / "abc").iterdir()
    file.write_bytes(b"torn")

    again = probs_on_others(folder, candidates[:1], faces)

    assert asked == ["t0000", "t0000"]
    assert again.tolist() == before.tolist()


def test_table_is_known_by_its_description(tmp_path: Path, face_table: FaceTable) -> None:
    (tmp_path / "dataset.json").write_text(json.dumps({"format": "else"}))

    with pytest.raises(DataError, match=r"dataset\.json must be of an affectune face table"):
        read_other_faces(tmp_path, face_table)
