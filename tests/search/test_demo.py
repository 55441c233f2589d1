"""The demo, small: the whole story from faces to an artifact, in one folder."""

import json
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import pytest

from search.demo import DemoSizes, run_demo
from search.evaluate import load_ensemble, predict_files
from spaces.errors import OutputError

SIZES = DemoSizes(n_train=240, n_valid=96, n_test=96, image_px=32, n_configs=2, bags_s=6.0)


def test_demo_refuses_a_folder_that_holds_something(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("precious")

    with pytest.raises(OutputError, match="output folder must be new or empty"):
        run_demo(tmp_path, n_trials=4, time_budget_s=60.0, seed=0, sizes=SIZES)

    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


@pytest.mark.ray
@pytest.mark.slow
def test_demo_leaves_faces_search_artifact_and_summary(ray_local: None, tmp_path: Path) -> None:
    out = tmp_path / "demo"

    with redirect_stdout(StringIO()) as screen:
        summary = run_demo(out, n_trials=4, time_budget_s=60.0, seed=0, sizes=SIZES)

    assert sorted(path.name for path in out.iterdir()) == ["faces", "model", "pictures", "runs"]
    assert list(out.rglob("*.partial")) == []
    assert json.loads((out / "runs" / "demo" / "summary.json").read_text()) == summary
    assert_summary_is_complete(summary, out)
    assert_artifact_predicts(out)
    assert_last_lines_say_where_things_are(screen.getvalue(), out)


def assert_summary_is_complete(summary: dict[str, Any], out: Path) -> None:
    ends = [summary[end] for end in ("completed", "stopped", "diverged", "failed", "preempted")]

    assert (summary["search"], summary["n_trials"], sum(ends)) == ("demo", 4, 4)
    assert summary["failed"] == summary["diverged"] == 0
    assert list(summary["scores"]) == ["default", "best_trial", "uniform", "ensemble"]
    assert all(0 <= row[name] <= 1 for row in summary["scores"].values() for name in ("valid", "estimate", "test"))
    assert sum(member["weight"] for member in summary["members"]) == pytest.approx(1)
    assert summary["artifact"] == str(out / "model")
    assert summary["tracking_uri"] == f"sqlite:///{out / 'runs' / 'mlflow.db'}"
    assert summary["experiment_id"] and summary["parent_run_id"]
    assert summary["wall_s"] > 0


def assert_artifact_predicts(out: Path) -> None:
    pictures = sorted((out / "pictures").iterdir())

    probs = predict_files(load_ensemble(out / "model"), pictures)

    assert probs.shape == (3, 6)
    assert probs.sum(axis=1) == pytest.approx(1)


def assert_last_lines_say_where_things_are(screen: str, out: Path) -> None:
    artifact, summary, trials, took = screen.rstrip().splitlines()[-4:]

    assert artifact.split() == ["artifact", str(out / "model")]
    assert summary.split() == ["summary", str(out / "runs" / "demo" / "summary.json")]
    assert trials.split(maxsplit=1)[1] == f"affectune ui --storage {out / 'runs'}"
    assert took.startswith("took")
