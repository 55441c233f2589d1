"""The report is written as a whole, kept in the search's folder, and handed to MLflow; what is broken is named."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from search.cli import main
from search.folder import SearchFolder
from search.report.job import REPORT_FILE, write_report
from search.tracking import Tracker
from spaces.errors import AffectuneError

Change = Callable[[dict[str, Any]], Any]


def change(file: Path, how: Change) -> None:
    document = json.loads(file.read_text(encoding="utf-8"))
    how(document)
    file.write_text(json.dumps(document), encoding="utf-8")


BROKEN: dict[str, tuple[str, Change]] = {
    "config without backbone": ("trials/t0001/trial.json", lambda d: d["config"].pop("model.backbone")),
    "config without faces": ("trials/t0001/trial.json", lambda d: d["config"].pop("data.subsample_ratio")),
    "epochs as words": ("trials/t0001/trial.json", lambda d: d["config"].update({"train.epochs": "many"})),
    "values of another space": ("trials/t0002/trial.json", lambda d: d["values"].update({"optimiser.lr": "fast"})),
    "values as a list": ("trials/t0002/trial.json", lambda d: d.update(values=[1, 2])),
    "score as a word": ("trials/t0002/trial.json", lambda d: d.update(best_macro_f1="good")),
    "no classes": ("search.json", lambda d: d.pop("classes")),
    "plan with a word": ("search.json", lambda d: d.update(plan={"reduction_factor": "three"})),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_search_that_is_broken_is_refused_with_a_sentence_or_told_of(
    case: str, made_search: Callable[..., SearchFolder]
) -> None:
    folder = made_search(n_trials=12)
    name, how = BROKEN[case]
    change(folder.path / name, how)

    try:
        write_report(folder)
    except AffectuneError as error:
        assert len(str(error).splitlines()) == 1 and not (folder.path / REPORT_FILE).exists()
    else:
        assert (folder.path / REPORT_FILE).read_text(encoding="utf-8").rstrip().endswith("</html>")


def test_command_says_where_the_page_is(
    made_search: Callable[..., SearchFolder], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = made_search("faces", n_trials=12)
    out = tmp_path / "pages" / "faces.html"

    code = main(["report", "faces", "--storage", str(folder.path.parent), "--out", str(out), "--no-mlflow"])

    assert code == 0
    assert capsys.readouterr().out == f"report  {out}\n"
    assert out.read_text(encoding="utf-8") == (folder.path / REPORT_FILE).read_text(encoding="utf-8")


def test_command_offers_the_name_that_is_meant(
    made_search: Callable[..., SearchFolder], capsys: pytest.CaptureFixture[str]
) -> None:
    folder = made_search("faces", n_trials=2)

    code = main(["report", "fases", "--storage", str(folder.path.parent)])

    assert code == 1
    assert "did you mean 'faces'" in capsys.readouterr().err


@pytest.mark.slow
def test_run_of_the_launch_gets_the_page(
    made_search: Callable[..., SearchFolder], capsys: pytest.CaptureFixture[str]
) -> None:
    from mlflow import MlflowClient

    folder = made_search("faces", n_trials=12)
    uri = folder.read_manifest().tracking_uri
    tracker = Tracker(uri, "faces", folder.tracking_dir)
    key = tracker.start_search(name="faces")
    tracker.end_run(key, "completed")
    assert tracker.close(timeout_s=60.0) == 0

    code = main(["report", "faces", "--storage", str(folder.path.parent)])

    run_id = tracker.run_id(key)
    assert (code, capsys.readouterr().err) == (0, "")
    assert [file.path for file in MlflowClient(tracking_uri=uri).list_artifacts(run_id)] == [REPORT_FILE]


def test_running_search_gets_its_page_and_mlflow_later(
    made_search: Callable[..., SearchFolder], capsys: pytest.CaptureFixture[str]
) -> None:
    folder = made_search("faces", n_trials=12, status="running")
    tracker = Tracker("http://127.0.0.1:9", "faces", folder.tracking_dir)
    try:
        code = main(["report", "faces", "--storage", str(folder.path.parent)])
    finally:
        tracker.close(timeout_s=0.0)

    out = capsys.readouterr().out
    assert code == 0 and (folder.path / REPORT_FILE).is_file()
    assert "MLflow gets the report once the search has ended and this command is run again" in out
