"""The look through the books of a search finds what is out of order."""

import json
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from books import wrongs_in_books

SCHEMA = """
create table experiments (experiment_id integer, name text);
create table runs (run_uuid text, status text, lifecycle_stage text, experiment_id integer);
create table tags (key text, value text, run_uuid text);
create table metrics (key text, value real, step integer, run_uuid text);
insert into experiments values (1, 'tidy');
"""
"""What the look needs of MLflow's own."""


def write_trial(folder: Path, number: int, **changes: Any) -> None:
    """A trial's record, of two epochs."""
    record = {
        "trial_id": f"t{number:04d}", "number": number, "values": {"lr": number}, "config": {"train.epochs": 2},
        "end": "completed", "error": "", "epochs": 2,
        "history": [{"epoch": epoch, "train/loss": 1.0 / epoch} for epoch in (1, 2)],
    }  # fmt: skip
    file = folder / "trials" / record["trial_id"] / "trial.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(record | changes))


def change(folder: Path, *statements: str) -> None:
    """Change MLflow's file."""
    with sqlite3.connect(folder.parent / "mlflow.db") as database:
        for statement in statements:
            database.executescript(statement)


def add_line(folder: Path, **event: Any) -> None:
    """Another line in the study's journal."""
    with (folder / "study.jsonl").open("a") as file:
        file.write(json.dumps(event) + "\n")


@pytest.fixture
def tidy(tmp_path: Path) -> Path:
    """The folder of a search of two trials whose books are in order."""
    folder = tmp_path / "tidy"
    folder.mkdir()
    (folder / "search.json").write_text('{"status": "ended"}')
    change(folder, SCHEMA)
    for number in (0, 1):
        name = f"t{number:04d}"
        write_trial(folder, number)
        add_line(folder, event="ask", trial_id=name)
        add_line(folder, event="tell", trial_id=name, end="completed")
        change(
            folder,
            f"insert into runs values ('{name}', 'FINISHED', 'active', 1)",
            f"insert into tags values ('affectune.key', '{name}', '{name}'), ('affectune.kind', 'trial', '{name}')",
            f"insert into metrics values ('train/loss', 1.0, 1, '{name}'), ('train/loss', 0.5, 2, '{name}')",
        )
    return folder


WRONGS: dict[str, tuple[Callable[[Path], object], str]] = {
    "a search that has not ended": (
        lambda folder: (folder / "search.json").write_text('{"status": "running"}'), "search.json says running"),
    "a trial too many": (lambda folder: write_trial(folder, 2, values={"lr": 9}), "trials are numbered [0, 1, 2]"),
    "a trial twice": (lambda folder: write_trial(folder, 1, values={"lr": 0}), '2 trials have the values {"lr": 0}'),
    "a trial without an end": (lambda folder: write_trial(folder, 1, end=None), "t0001 ended as None"),
    "an epoch that is missing": (
        lambda folder: write_trial(folder, 1, history=[{"epoch": 2, "train/loss": 0.5}]),
        "t0001 has 2 epochs, and of them [2]"),
    "a trial asked for twice": (
        lambda folder: add_line(folder, event="ask", trial_id="t0001"), "study asked 2 times for t0001"),
    "an end told twice": (
        lambda folder: add_line(folder, event="tell", trial_id="t0001", end="completed"), "study was told [(("),
    "an open run": (lambda folder: change(folder, "update runs set status = 'RUNNING'"), "run t0000 is RUNNING"),
    "a second run of a trial": (
        lambda folder: change(folder, "insert into runs values ('x', 'FINISHED', 'active', 1)",
                              "insert into tags values ('affectune.key', 't0000', 'x')"),
        "2 runs have the key t0000"),
    "a number twice": (
        lambda folder: change(folder, "insert into metrics values ('train/loss', 1.0, 1, 't0000')"),
        "2 values of ('t0000', 'train/loss', 1)"),
    "a number that is missing": (
        lambda folder: change(folder, "delete from metrics where step = 2"),
        "MLflow lacks ('t0000', 'train/loss', 2)"),
    "a number of another epoch": (
        lambda folder: change(folder, "insert into metrics values ('train/loss', 0.4, 3, 't0000')"),
        "MLflow knows ('t0000', 'train/loss', 3) alone"),
    "another number": (
        lambda folder: change(folder, "update metrics set value = 7 where step = 1"),
        "MLflow has 7.0 for ('t0000', 'train/loss', 1), the record 1.0"),
    "half a file": (
        lambda folder: (folder / "trials" / "t0000" / ".weights.partial").write_text(""),
        "left behind: trials/t0000/.weights.partial"),
}  # fmt: skip


def test_books_in_order_have_nothing_wrong(tidy: Path) -> None:
    assert wrongs_in_books(tidy, n_trials=2) == []


@pytest.mark.parametrize("name", WRONGS)
def test_books_show_what_is_wrong(tidy: Path, name: str) -> None:
    do_wrong, sentence = WRONGS[name]

    do_wrong(tidy)

    assert any(wrong.startswith(sentence) for wrong in wrongs_in_books(tidy, n_trials=2))
