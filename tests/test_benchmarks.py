"""What the benchmarks share: rows and their targets, medians of turns, and the run of all of them."""

import importlib
import json
import re
import socket
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"


@pytest.fixture
def measure(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("measure")


@pytest.fixture
def run(measure: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The runner over a folder of its own: words to exit code."""
    runner = importlib.import_module("run")
    (tmp_path / "README.md").write_text("before\n<!-- results -->\nold\n<!-- end of results -->\nafter\n")
    for name, path in (("HERE", tmp_path), ("RESULTS", tmp_path / "results.json"), ("README", tmp_path / "README.md")):
        monkeypatch.setattr(runner, name, path)

    def go(*words: str) -> int:
        monkeypatch.setattr(sys, "argv", ["run.py", *words])
        code: int = runner.main()
        return code

    return go


def write_bench(folder: Path, name: str, value: float, *, code: int = 0) -> None:
    """A benchmark that takes no time."""
    (folder / f"bench_{name}.py").write_text(
        f"import sys; sys.path.insert(0, {str(BENCHMARKS)!r})\n"
        "from measure import Target, bench_arguments, compare, report\n"
        "arguments = bench_arguments('A bench.', runs=1)\n"
        f"report([compare('{name}', {value}, 's', target=Target(value_at_most=2))], arguments)\n"
        f"sys.exit({code})\n"
    )


def test_row_says_how_many_times_less_ours_is(measure: ModuleType) -> None:
    row = measure.compare("x", 0.1, "s", peer="y", peer_value=5.0, target=measure.Target(ratio_at_least=20))

    assert (row.ratio, row.target, row.met) == (50.0, "ratio at least 20", True)


def test_row_says_how_many_times_more_ours_is(measure: ModuleType) -> None:
    target = measure.Target(ratio_at_least=0.97)

    row = measure.compare("x", 90.0, "/s", peer="y", peer_value=100.0, is_smaller_better=False, target=target)

    assert (row.ratio, row.met) == (0.9, False)


def test_row_has_to_meet_all_bounds(measure: ModuleType) -> None:
    target = measure.Target(ratio_at_least=20, value_at_most=0.25)

    row = measure.compare("x", 0.3, "s", peer="y", peer_value=9.0, target=target)

    assert (row.target, row.met) == ("ratio at least 20, value at most 0.25 s", False)


def test_row_that_can_not_be_measured_says_so_and_is_neither_met_nor_missed(measure: ModuleType) -> None:
    row = measure.not_measured("heads", "/s", why="no GPU here", target=measure.Target(value_at_least=5))

    assert (row.name, row.value, row.met, row.target) == ("heads (no GPU here)", None, None, "value at least 5 /s")


def test_medians_are_of_runs_taken_in_turn(measure: ModuleType) -> None:
    order: list[str] = []

    def work(name: str, numbers: list[float]) -> Any:
        def once() -> float:
            order.append(name)
            return numbers.pop(0)

        return once

    found = measure.medians_in_turn({"a": work("a", [99, 1, 2, 9]), "b": work("b", [99, 5, 4, 3])}, runs=3)

    assert found == {"a": 2, "b": 4}
    assert order == ["a", "b"] * 4


def test_table_has_a_line_a_row(measure: ModuleType) -> None:
    row = measure.compare("x | y", 1234.5, "s", peer="z", peer_value=0.01234, target=measure.Target(ratio_at_least=1))

    assert measure.to_table([row]).splitlines()[2] == (
        "| x / y | 1,234 s | z | 0.0123 s | 1e-05 | ratio at least 1 | **no** |"
    )


def test_machine_is_named_without_saying_whose_it_is(measure: ModuleType) -> None:
    machine = measure.describe_machine()

    assert {"processor", "cores", "memory", "gpu", "python", "torch"} <= machine.keys()
    assert not re.search(r"/|home", " ".join(machine.values()))
    assert socket.gethostname() not in machine.values()


@pytest.mark.slow
def test_run_collects_all_rows_and_rewrites_the_table(run: Any, tmp_path: Path) -> None:
    write_bench(tmp_path, "one", 1.0)
    write_bench(tmp_path, "two", 3.0)

    code = run()

    rows = json.loads((tmp_path / "results.json").read_text())
    keys = ["name", "value", "unit", "peer", "peer_value", "ratio", "target", "met"]
    assert code == 0
    assert [(row["name"], row["value"], row["met"]) for row in rows] == [("one", 1.0, True), ("two", 3.0, False)]
    assert list(rows[0]) == keys
    text = (tmp_path / "README.md").read_text()
    assert text.startswith("before\n<!-- results -->\nLast run on ")
    assert "| one | 1 s |" in text and "old" not in text and text.endswith("<!-- end of results -->\nafter\n")


@pytest.mark.slow
def test_run_names_a_benchmark_that_failed(run: Any, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    write_bench(tmp_path, "broken", 1.0, code=3)
    write_bench(tmp_path, "good", 1.0)

    code = run()

    assert code == 1
    assert [row["name"] for row in json.loads((tmp_path / "results.json").read_text())] == ["good"]
    assert "broken failed, exit code 3" in capfd.readouterr().err
    assert "Without broken, which failed." in (tmp_path / "README.md").read_text()


@pytest.mark.slow
def test_run_of_one_benchmark_keeps_the_rows_of_the_others(run: Any, tmp_path: Path) -> None:
    write_bench(tmp_path, "one", 1.0)
    write_bench(tmp_path, "two", 1.5)
    run()
    write_bench(tmp_path, "two", 0.5)

    run("two")

    rows = json.loads((tmp_path / "results.json").read_text())
    assert [(row["name"], row["value"]) for row in rows] == [("one", 1.0), ("two", 0.5)]


def test_run_refuses_a_benchmark_that_is_not_there(run: Any, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        run("nonsense")

    assert "NAME must be one of" in capsys.readouterr().err


@pytest.mark.parametrize("path", sorted(BENCHMARKS.glob("bench_*.py")), ids=lambda path: path.stem)
def test_benchmark_says_what_it_asks_and_by_which_command(path: Path) -> None:
    text = path.read_text(encoding="utf-8")

    assert re.search(rf"^ *(Run: )?python benchmarks/{path.name}", text, re.MULTILINE)
    assert "return report(" in text


def run_bench(name: str, out: Path, *words: str) -> list[dict[str, Any]]:
    """The rows of a benchmark at a size of seconds."""
    command = [sys.executable, str(BENCHMARKS / f"bench_{name}.py"), "--json", str(out), "--runs", "1", *words]
    subprocess.run(command, check=True, cwd=BENCHMARKS.parent, stdout=subprocess.DEVNULL)
    rows: list[dict[str, Any]] = json.loads(out.read_text())["rows"]
    return rows


@pytest.mark.slow
def test_selection_is_measured_against_the_loop_and_says_where_a_peer_is_missing(tmp_path: Path) -> None:
    sizes = ("--candidates", "6", "--samples", "80", "--rounds", "4")
    large = ("--large-candidates", "10", "--large-samples", "300")

    loop, autogluon, at_scale, memory = run_bench(
        "selection", tmp_path / "rows.json", *sizes, *large, "--autogluon", str(tmp_path / "python")
    )

    assert loop["ratio"] > 1 and loop["peer"].endswith("same picks")
    assert "AutoGluon is not installed" in autogluon["name"]
    assert (autogluon["value"], autogluon["met"]) == (None, None)
    assert 0 < at_scale["value"] < 10 and at_scale["met"]
    assert 20 < memory["value"] < 1000


@pytest.mark.slow
def test_blending_is_measured_against_the_grid(tmp_path: Path) -> None:
    rows = run_bench("blending", tmp_path / "rows.json", "--samples", "200", "--points", "101", "--many", "300")

    assert rows[0]["ratio"] > 1
    assert [row["value"] > 0 for row in rows] == [True] * 4
