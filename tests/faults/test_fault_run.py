"""What the run of all fault tests makes of their reports."""

import importlib.util
import json
from pathlib import Path
from types import ModuleType

import pytest
from measure import Target, compare

REPORT = """<testsuites><testsuite>
<testcase name="test_disk_is_full"><system-out>kills</system-out></testcase>
<testcase name="test_node_is_lost"><failure message="no"/></testcase>
<testcase name="test_job_stops"><skipped type="pytest.skip" message="needs ray[default]"/></testcase>
</testsuite></testsuites>"""


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The runner over a folder of its own; benchmarks have one of that name too."""
    spec = importlib.util.spec_from_file_location("fault_run", Path(__file__).with_name("run.py"))
    assert spec is not None and spec.loader is not None
    runner = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(runner)
    (tmp_path / "README.md").write_text("before\n<!-- results -->\nold\n<!-- end of results -->\nafter\n")
    monkeypatch.setattr(runner, "RESULTS", tmp_path / "results.json")
    monkeypatch.setattr(runner, "README", tmp_path / "README.md")
    return runner


def test_report_says_how_many_tests_passed_and_what_could_not_run(run: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "report.xml").write_text(REPORT)

    count, skipped = run.outcome_rows("faults", tmp_path / "report.xml")

    assert (count.name, count.value, count.unit, count.met) == ("faults: tests that pass", 1, "of 2", False)
    assert (skipped.name, skipped.met) == ("faults: job stops (needs ray[default])", None)


def test_report_that_is_missing_has_no_rows(run: ModuleType, tmp_path: Path) -> None:
    assert run.outcome_rows("faults", tmp_path / "none.xml") == []


def test_results_keep_the_rows_of_files_that_did_not_run(run: ModuleType, tmp_path: Path) -> None:
    row = compare("trials that end", 23, "of 24", target=Target(value_at_least=24))

    run.write_results({"driver_killed": [row]}, failed=["driver_killed"])
    run.write_results(run.read_rows(run.RESULTS) | {"other": [compare("tests that pass", 1, "of 1")]}, failed=[])

    documents = json.loads(run.RESULTS.read_text())
    assert [(document["test"], document["value"]) for document in documents] == [("driver_killed", 23), ("other", 1)]
    assert run.read_rows(run.RESULTS)["driver_killed"] == [row]


def test_table_stands_between_its_marks_and_names_what_failed(run: ModuleType) -> None:
    row = compare("trials that end", 23, "of 24", target=Target(value_at_least=24))

    run.write_results({"driver_killed": [row]}, failed=["driver_killed"])

    text = run.README.read_text()
    assert text.startswith("before\n<!-- results -->\nLast run on ") and text.endswith(
        "<!-- end of results -->\nafter\n"
    )
    assert "| trials that end | 23 of 24 |" in text and "**no**" in text
    assert "Failed: driver_killed." in text and "old" not in text
