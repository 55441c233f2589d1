"""Pictures of trials come from a process of their own, which nobody waits for and which leaves with its driver."""

import shutil
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import psutil
import pytest

from search.folder import SearchFolder, SearchManifest, TrialRecord
from search.trial_pages import PICTURES_DIR, TrialPages, draw_pages
from trainables.scores import SCORES_FILE, save_scores, split_scores

if TYPE_CHECKING:
    from trainables.data.table import FaceTable


@pytest.fixture
def folder(face_table: "FaceTable", tmp_path: Path) -> SearchFolder:
    """Of a search with two scored trials, and one without scores."""
    made, split = SearchFolder(tmp_path / "faces"), face_table.split("valid")
    made.write_manifest(
        SearchManifest(
            name="faces",
            data=str(face_table.path),
            content_hash=face_table.info.content_hash,
            classes=face_table.info.classes,
            seed=0,
            n_trials=3,
            time_budget_s=None,
            tracking_uri="nowhere",
        )
    )
    generator = np.random.default_rng(0)
    for number in range(3):
        record = TrialRecord(f"t{number:04d}", number, {}, {}, end="completed", best_macro_f1=0.5)
        made.write_record(record)
        logits = generator.normal(size=(len(split.expression), len(face_table.info.classes))).astype(np.float32)
        if number < 2:
            file = made.trial_dir(record.trial_id) / SCORES_FILE
            file.parent.mkdir()
            save_scores(file, split_scores(split, face_table.info.classes, logits, extras={}))
    return made


def test_what_cant_be_read_is_passed_over(folder: SearchFolder) -> None:
    (folder.trial_dir("t0000") / SCORES_FILE).write_bytes(b"no scores")

    drawn = list(draw_pages(folder, ["t0000", "t0007", "t0001"]))

    assert drawn == ["t0001"]
    assert {file.name for file in (folder.trial_dir("t0001") / PICTURES_DIR).iterdir()} >= {"confusion.png"}
    assert not (folder.trial_dir("t0000") / PICTURES_DIR).exists()


@pytest.mark.slow
def test_driver_hears_of_each_trial_and_the_process_leaves(folder: SearchFolder) -> None:
    drawn: list[str] = []
    done = threading.Event()

    def hear(trial_id: str) -> None:
        drawn.append(trial_id)
        if len(drawn) == 2:
            done.set()

    pages = TrialPages(folder, hear)
    began_s = time.monotonic()
    for number in range(3):
        pages.ask(f"t{number:04d}")
    asked_s = time.monotonic() - began_s
    assert done.wait(60.0)
    pages.close()

    assert asked_s < 2.0
    assert sorted(drawn) == ["t0000", "t0001"]
    assert all((folder.trial_dir(trial_id) / PICTURES_DIR / "most_wrong.jpg").is_file() for trial_id in drawn)
    assert not [child for child in psutil.Process().children() if "search.trial_pages" in child.cmdline()]


@pytest.mark.slow
def test_no_face_is_shown_where_none_shall_be(folder: SearchFolder) -> None:
    pages = TrialPages(folder, lambda _: None, shows_faces=False)

    pages.ask("t0000")
    pages.close(timeout_s=60.0)

    names = {file.name for file in (folder.trial_dir("t0000") / PICTURES_DIR).iterdir()}
    assert names == {"confusion.png", "f1_by_class.png"}


@pytest.mark.slow
def test_next_launch_draws_what_is_missing_once_a_trial_of_its_own_has_ended(folder: SearchFolder) -> None:
    list(draw_pages(folder, ["t0000"]))
    drawn: list[str] = []
    pages = TrialPages(folder, drawn.append)

    pages.catch_up(folder.read_records())
    pages.close(timeout_s=60.0)
    assert drawn == []

    pages.catch_up(folder.read_records())
    pages.ask("t0000")
    pages.close(timeout_s=60.0)
    assert drawn == ["t0001"]


@pytest.mark.slow
def test_search_goes_on_though_nothing_can_be_drawn(folder: SearchFolder) -> None:
    (folder.path / "search.json").unlink()
    pages = TrialPages(folder, lambda _: pytest.fail("nothing was drawn"))

    pages.ask("t0000")
    time.sleep(3.0)
    pages.ask("t0001")
    pages.close(timeout_s=10.0)

    shutil.rmtree(folder.path)
