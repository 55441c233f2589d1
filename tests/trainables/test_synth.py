"""Tables of generated faces: exact counts, no shared subjects, the same bytes however they are made."""

from pathlib import Path

import numpy as np
import pytest

from spaces.errors import OutputError, UsageError
from trainables.data import synth
from trainables.data.faces.expression import EXPRESSIONS
from trainables.data.synth import LSD_COUNTS, WILD_SHARES, generate_split, stratified_counts, write_synth_table
from trainables.data.table import FaceTable


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> FaceTable:
    out = tmp_path_factory.mktemp("synth") / "table"
    return write_synth_table(out, n_train=60, n_valid=24, n_test=24, image_px=32, seed=5)


def test_table_holds_what_was_asked_for(table: FaceTable) -> None:
    assert table.info.rows == {"train": 60, "valid": 24, "test": 24}
    assert table.info.classes == EXPRESSIONS
    assert (table.info.image_px, table.info.channels) == (32, 3)
    assert all(
        count == table.info.rows[name] for name, labels in table.info.labels.items() for count in labels.values()
    )


def test_splits_share_no_subject(table: FaceTable) -> None:
    test = table.sealed_test()
    assert test is not None
    subjects = [set(split.subjects) for split in (table.split("train"), table.split("valid"), test)]

    assert all(subjects)
    assert not subjects[0] & subjects[1] and not subjects[0] & subjects[2] and not subjects[1] & subjects[2]


def test_train_split_has_the_imbalance_of_lsd(table: FaceTable) -> None:
    assert table.info.class_counts["train"] == stratified_counts(60, LSD_COUNTS)
    assert table.info.class_counts["valid"] == stratified_counts(24, WILD_SHARES)


def test_counts_are_proportional_and_exact() -> None:
    counts = stratified_counts(10_000, LSD_COUNTS)

    assert sum(counts) == 10_000
    assert np.abs(np.array(counts) - 10_000 * np.array(LSD_COUNTS) / sum(LSD_COUNTS)).max() < 1


@pytest.mark.parametrize("n", [12, 13, 30, 100])
def test_counts_leave_no_class_alone_when_there_are_few_rows(n: int) -> None:
    counts = stratified_counts(n, LSD_COUNTS)

    assert sum(counts) == n
    assert min(counts) >= 2


def test_counts_refuse_too_few_rows() -> None:
    with pytest.raises(UsageError, match=r"rows of a split must be at least 12, 2 a class, got 11"):
        stratified_counts(11, LSD_COUNTS)


def test_split_does_not_depend_on_the_size_of_the_others(table: FaceTable, tmp_path: Path) -> None:
    other = write_synth_table(tmp_path / "other", n_train=12, n_valid=24, n_test=0, image_px=32, seed=5)

    assert np.array_equal(other.split("valid").images, table.split("valid").images)
    assert other.sealed_test() is None


def test_table_is_the_same_for_the_same_seed_and_another_for_another(table: FaceTable) -> None:
    same, other = generate_split("train", n=60, image_px=32, seed=5), generate_split("train", n=60, image_px=32, seed=6)

    assert np.array_equal(table.split("train").images, same.images)
    assert not np.array_equal(same.images, other.images)


@pytest.mark.slow
def test_faces_are_the_same_from_several_processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(synth, "_BATCH", 16)
    alone = generate_split("train", n=48, image_px=32)
    monkeypatch.setattr(synth, "_PARALLEL_FROM", 1)
    monkeypatch.setattr(synth, "_n_processors", lambda: 2)

    table = write_synth_table(tmp_path / "table", n_train=48, n_valid=0, n_test=0, image_px=32)

    assert np.array_equal(table.split("train").images, alone.images)
    assert table.split("train").sample_ids == list(alone.sample_ids)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"n_train": 5}, "number of train faces must be 12 to 4000000, got 5"),
        ({"n_train": 0}, "number of train faces must be 12 to 4000000, got 0"),
        ({"n_valid": -1}, "number of valid faces must be 12 to 1000000, got -1"),
        ({"image_px": 8}, "image_px must be 32 to 256, got 8"),
        ({"seed": -2}, "seed must not be negative, got -2"),
    ],
    ids=["few", "none", "negative", "tiny", "seed"],
)
def test_synth_refuses_numbers_out_of_range(tmp_path: Path, change: dict[str, int], message: str) -> None:
    numbers = {"n_train": 12, "n_valid": 12, "n_test": 12, "image_px": 32, "seed": 0, **change}

    with pytest.raises(UsageError, match=message):
        write_synth_table(tmp_path / "table", **numbers)  # type: ignore[arg-type]
    assert not (tmp_path / "table").exists()


def test_synth_does_not_overwrite_a_folder(tmp_path: Path) -> None:
    (tmp_path / "note.txt").write_text("mine")

    with pytest.raises(OutputError, match="must be new or empty"):
        write_synth_table(tmp_path, n_train=12, n_valid=12, n_test=12, image_px=32)


def test_progress_bar_goes_to_stderr_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_synth_table(tmp_path / "table", n_train=12, n_valid=0, n_test=0, image_px=32, progress=True)

    assert capsys.readouterr().out == ""
