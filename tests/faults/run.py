"""Run the fault tests, a file after the other; write `results.json` and the table of `README.md`, beside this file.

    python tests/faults/run.py [--small] [NAME ...]

NAME is a test's file without `test_` and `.py`; where some are named, the other rows stay as they were. Exits with 1
where a test failed, and says which. `--small` lets things fail a few times only, and leaves results and table alone.
"""

import argparse
import datetime
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from xml.etree import ElementTree

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path.append(str(ROOT / "benchmarks"))

from measure import Row, Target, compare, describe_machine, in_words, not_measured, to_table  # noqa: E402

RESULTS, README = HERE / "results.json", HERE / "README.md"
BEGIN, END = "<!-- results -->", "<!-- end of results -->"
OUTPUTS = {"properties", "system-out", "system-err"}
"""What pytest's report has of a test that passed."""

LONGEST_S = 1200.0
"""Of one file."""

BESIDE = (
    "launch_from_outside",
    "storage_full",
    "malformed_processes",
    "clock_skew",
    "malformed_spaces",
    "malformed_searches",
    "malformed_sources",
    "malformed_tables",
    "malformed_artifacts",
    "malformed_images",
    "books",
    "fault_run",
)
"""Files that hold nothing against the clock: they come first, two at a time, those that take long before the others."""


def main() -> int:
    """Run, collect, write, and say what failed."""
    files = {file.stem.removeprefix("test_"): file for file in sorted(HERE.glob("**/test_*.py"))}
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(files)}; all, where none is named")
    parser.add_argument("--small", action="store_true", help="a few times only; nothing is written")
    arguments = parser.parse_args()
    names = arguments.names or list(files)
    if unknown := sorted(set(names) - set(files)):
        parser.error(f"NAME must be one of {', '.join(files)}, got {', '.join(unknown)}")
    rows, failed = run_files({name: files[name] for name in names}, scale="small" if arguments.small else "full")
    if not arguments.small:
        known = read_rows(RESULTS) if arguments.names else {}
        rows = known | rows
        write_results(rows, failed=failed)
    print(to_table([row for of_file in rows.values() for row in of_file]))
    if failed:
        say(f"failed: {', '.join(failed)}")
    return 1 if failed else 0


def run_files(files: Mapping[str, Path], *, scale: str) -> tuple[dict[str, list[Row]], list[str]]:
    """Each file's rows by its name, and the names of those of which a test failed."""
    rows: dict[str, list[Row]] = {}
    failed, began_s = [], time.monotonic()

    def run(name: str) -> None:
        rows[name], is_good = run_file(name, files[name], scale=scale)
        failed.extend([] if is_good else [name])
        verdict = "done" if is_good else "FAILED"
        say(f"[{len(rows)}/{len(files)}] {name}: {verdict}, {time.monotonic() - began_s:.0f} s so far")

    with ThreadPoolExecutor(2) as lanes:
        for done in [lanes.submit(run, name) for name in BESIDE if name in files]:
            done.result()
    for name in files:
        if name not in rows:
            run(name)
    return {name: rows[name] for name in files if rows[name]}, failed


def run_file(name: str, file: Path, *, scale: str) -> tuple[list[Row], bool]:
    """The rows of a file's tests, and whether all of them passed. What pytest prints is for stderr, when it has ended.

    It gets a Ctrl-C of its own, so that its tests can end what they started.
    """
    with tempfile.TemporaryDirectory() as folder:
        noted, report = Path(folder) / "rows.json", Path(folder) / "report.xml"
        words = [
            "-m",
            "faults",
            "--faults",
            scale,
            "--faults-rows",
            str(noted),
            f"--junit-xml={report}",
            "-p",
            "no:xdist",
        ]
        with (Path(folder) / "printed").open("w+b") as printed:
            tests = subprocess.Popen(
                [sys.executable, "-m", "pytest", *words, str(file)],
                cwd=ROOT,
                env={**os.environ, "PYTHONUNBUFFERED": "1"},
                stdout=printed,
                stderr=subprocess.STDOUT,
            )
            code = wait_for(tests)
            printed.seek(0)
            say(printed.read().decode("utf-8", errors="replace"))
        rows = [Row(**row) for row in json.loads(noted.read_text(encoding="utf-8"))] if noted.is_file() else []
        rows += outcome_rows(name.replace("_", " "), report)
    return rows, code in (0, 5)  # 5: none in it is a fault test


def outcome_rows(title: str, report: Path) -> list[Row]:
    """How many of a file's tests passed, and a row for each that could not run here; from pytest's report."""
    if not report.is_file():
        return []
    cases = list(ElementTree.parse(report).getroot().iter("testcase"))
    reasons = [(case.get("name", ""), case.find("skipped")) for case in cases]
    skipped = [(name, reason.get("message", "")) for name, reason in reasons if reason is not None]
    passed = [case for case in cases if {part.tag for part in case} <= OUTPUTS]
    n_run = len(cases) - len(skipped)
    count = compare(f"{title}: tests that pass", len(passed), f"of {n_run}", target=Target(value_at_least=n_run))
    return [count] * (n_run > 0) + [
        not_measured(f"{title}: {name.removeprefix('test_').replace('_', ' ')}", "", why=why) for name, why in skipped
    ]


def wait_for(tests: "subprocess.Popen[bytes]") -> int:
    """The exit code; a run that takes too long is asked to end, so that its tests can end what they started."""
    try:
        return tests.wait(LONGEST_S)
    except subprocess.TimeoutExpired:
        tests.send_signal(signal.SIGINT)
        try:
            tests.wait(60.0)
        except subprocess.TimeoutExpired:
            tests.kill()
            tests.wait()
        return 1
    except KeyboardInterrupt:
        tests.wait()
        raise


def read_rows(path: Path) -> dict[str, list[Row]]:
    """The rows of earlier results by file; none where there is no file."""
    if not path.is_file():
        return {}
    found: dict[str, list[Row]] = {}
    for row in json.loads(path.read_text(encoding="utf-8")):
        found.setdefault(row.pop("test"), []).append(Row(**row))
    return found


def write_results(rows: Mapping[str, Sequence[Row]], *, failed: Sequence[str]) -> None:
    """Replace results.json and the table in the README."""
    document = [{"test": name, **asdict(row)} for name, of_file in rows.items() for row in of_file]
    RESULTS.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    before, _, rest = README.read_text(encoding="utf-8").partition(BEGIN)
    after = rest.partition(END)[2]
    today = datetime.datetime.now(tz=datetime.UTC).date().isoformat()
    lines = [BEGIN, f"Last run on {today}: {in_words(describe_machine())}.", ""]
    lines.append(to_table([row for of_file in rows.values() for row in of_file]))
    lines += ["", f"Failed: {', '.join(failed)}."] if failed else []
    README.write_text(before + "\n".join([*lines, END]) + after, encoding="utf-8")


def say(text: str) -> None:
    """Progress goes to stderr; stdout has the table."""
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
