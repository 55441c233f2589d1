"""What has to hold of a search that has ended, whatever befell it: its records, the study, MLflow, the folder."""

import json
import sqlite3
from collections import Counter
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

GOOD_ENDS = ("completed", "stopped")
LEFTOVERS = (
    "**/.*.partial",
    "**/*.partial",
    "trials/*/checkpoint*",
    "trials/*/pulse*",
    "tune-*",
    "tracking/rejected.jsonl",
)
"""What no search leaves in its folder that ended well."""

SUMMARY = ("best/macro_f1",)
NO_CURVES = ("epoch", "best/epoch", "head/embedded", "unmoved/macro_f1")
"""Metrics that a trial's end may add at its last step."""

TIMES = "time/"
"""How metrics begin that come out otherwise where an epoch was run again: MLflow keeps those of the first run."""

TRIAL_POINTS = """
select own.value, metrics.key, metrics.step, metrics.value from metrics
join tags own on own.run_uuid = metrics.run_uuid and own.key = 'affectune.key'
join tags kind on kind.run_uuid = metrics.run_uuid and kind.key = 'affectune.kind' and kind.value = 'trial'
join runs on runs.run_uuid = metrics.run_uuid and runs.lifecycle_stage = 'active'
join experiments on experiments.experiment_id = runs.experiment_id and experiments.name = ?
"""
RUNS = """
select own.value, runs.status from runs join tags own on own.run_uuid = runs.run_uuid and own.key = 'affectune.key'
join experiments on experiments.experiment_id = runs.experiment_id and experiments.name = ?
where runs.lifecycle_stage = 'active'
"""


def read_records(folder: Path) -> list[dict[str, Any]]:
    """The trials' records of a search's folder, by number."""
    return [json.loads(file.read_text(encoding="utf-8")) for file in sorted(folder.glob("trials/*/trial.json"))]


def read_manifest(folder: Path) -> dict[str, Any]:
    """The search's own document."""
    document: dict[str, Any] = json.loads((folder / "search.json").read_text(encoding="utf-8"))
    return document


def read_operations(folder: Path) -> list[dict[str, Any]]:
    """What MLflow was to be told, in order, with Unix milliseconds under `t`; torn lines are left out."""
    lines = (folder / "tracking" / "operations.jsonl").read_bytes().splitlines()
    return [operation for line in lines for operation in _parsed(line)]


def _parsed(line: bytes) -> list[dict[str, Any]]:
    try:
        return [json.loads(line)]
    except ValueError:
        return []


def ask(database: Path, query: str, *values: object) -> list[tuple[Any, ...]]:
    """Rows of MLflow's SQLite file."""
    connection = sqlite3.connect(f"file:{database}?mode=ro", uri=True, timeout=30.0)
    try:
        return connection.execute(query, values).fetchall()
    finally:
        connection.close()


def wrongs_in_books(
    folder: Path, *, n_trials: int, database: Path | None = None, ends: Collection[str] = GOOD_ENDS
) -> list[str]:
    """What is out of order in a search that has ended, a sentence each; empty where nothing is.

    Args:
        folder: of the search.
        n_trials: that it was asked for.
        database: MLflow's SQLite file; the storage's own if None.
        ends: that a trial may have come to.
    """
    records = read_records(folder)
    return [
        *wrongs_in_records(folder, records, n_trials=n_trials, ends=ends),
        *wrongs_in_study(folder / "study.jsonl", records),
        *wrongs_in_mlflow(database or folder.parent / "mlflow.db", folder.name, records),
        *(f"left behind: {path.relative_to(folder)}" for pattern in LEFTOVERS for path in folder.glob(pattern)),
    ]


def wrongs_in_records(
    folder: Path, records: list[dict[str, Any]], *, n_trials: int, ends: Collection[str]
) -> list[str]:
    """Each trial is there once, ended, with all its epochs, and the search says that it has ended."""
    wrongs = []
    if (status := read_manifest(folder)["status"]) != "ended":
        wrongs.append(f"search.json says {status}")
    if (numbers := [record["number"] for record in records]) != list(range(n_trials)):
        wrongs.append(f"trials are numbered {numbers}")
    values = Counter(json.dumps(record["values"], sort_keys=True) for record in records)
    wrongs += [f"{n} trials have the values {same}" for same, n in values.items() if n > 1]
    for record in records:
        if record["end"] not in ends:
            wrongs.append(f"{record['trial_id']} ended as {record['end']}, {record['error']}")
        if (epochs := [epoch["epoch"] for epoch in record["history"]]) != list(range(1, record["epochs"] + 1)):
            wrongs.append(f"{record['trial_id']} has {record['epochs']} epochs, and of them {epochs}")
        if record["end"] == "completed" and record["epochs"] != record["config"]["train.epochs"]:
            wrongs.append(f"{record['trial_id']} completed after {record['epochs']} epochs")
    return wrongs


def wrongs_in_study(path: Path, records: list[dict[str, Any]]) -> list[str]:
    """Each trial was asked for once, and its end told once, the one of its record."""
    events = [event for line in path.read_bytes().splitlines() for event in _parsed(line)]
    asked = Counter(event["trial_id"] for event in events if event["event"] == "ask")
    told = Counter((event["trial_id"], event["end"]) for event in events if event["event"] == "tell")
    wrongs = [f"study asked {n} times for {trial_id}" for trial_id, n in asked.items() if n > 1]
    if lost := sorted({record["trial_id"] for record in records} - set(asked)):
        wrongs.append(f"study was never asked for {lost}")
    final = Counter({key: n for key, n in told.items() if key[1] != "preempted"})
    if final != Counter((record["trial_id"], record["end"]) for record in records):
        wrongs.append(f"study was told {sorted(final.items())}")
    return wrongs


def wrongs_in_mlflow(database: Path, experiment: str, records: list[dict[str, Any]]) -> list[str]:
    """Each trial has one run, none is open, and every number of every epoch stands there once."""
    runs = ask(database, RUNS, experiment)
    wrongs = [f"run {key} is RUNNING" for key, status in runs if status == "RUNNING"]
    wrongs += [f"{n} runs have the key {key}" for key, n in Counter(key for key, _ in runs).items() if n > 1]
    points = ask(database, TRIAL_POINTS, experiment)
    wrongs += [
        f"{n} values of {where}" for where, n in Counter((key, metric, step) for key, metric, step, _ in points).items()
        if n > 1
    ]  # fmt: skip
    told = {(key, metric, step): value for key, metric, step, value in points}
    return wrongs + wrongs_in_points(told, records)


def wrongs_in_points(told: Mapping[tuple[str, str, int], float], records: list[dict[str, Any]]) -> list[str]:
    """Points of a tracking server against the records: none is missing, another's, or from nowhere."""
    known = {
        (record["trial_id"], metric, epoch["epoch"]): value
        for record in records for epoch in record["history"] for metric, value in epoch.items()
        if metric not in NO_CURVES
    }  # fmt: skip
    ending = {(record["trial_id"], metric, record["epochs"]) for record in records for metric in SUMMARY}
    wrongs = [f"MLflow lacks {where}" for where in known if where not in told]
    others = {
        where: told[where] for where, value in known.items()
        if told.get(where, value) != value and not where[1].startswith(TIMES)
    }  # fmt: skip
    wrongs += [f"MLflow has {value} for {where}, the record {known[where]}" for where, value in others.items()]
    return wrongs + [f"MLflow knows {where} alone" for where in told if where not in known and where not in ending]
