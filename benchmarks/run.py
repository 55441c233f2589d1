"""Run the benchmarks one after the other; write `results.json` and the table of `README.md`, both beside this file.

    python benchmarks/run.py [NAME ...]

NAME is a benchmark's file without `bench_` and `.py`; where some are named, the other rows stay as they were. Exits
with 1 where a benchmark failed, and says which; a target that was not met is shown in the table and is no failure.
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
from dataclasses import asdict
from pathlib import Path

from measure import Row, describe_machine, in_words, to_table

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results.json"
README = HERE / "README.md"
BEGIN, END = "<!-- results -->", "<!-- end of results -->"
LONGEST_S = 900.0


def main() -> int:
    """Run, collect, write, and say what failed."""
    benches = sorted(path.stem.removeprefix("bench_") for path in HERE.glob("bench_*.py"))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(benches)}; all, where none is named")
    names = parser.parse_args().names or benches
    if unknown := sorted(set(names) - set(benches)):
        parser.error(f"NAME must be one of {', '.join(benches)}, got {', '.join(unknown)}")
    started_s = time.monotonic()
    rows = {} if names == benches else {row.name: row for row in read_rows(RESULTS)}
    failed = []
    for place, name in enumerate(names, start=1):
        say(f"[{place}/{len(names)}] {name}")
        found = run_bench(name)
        if found is None:
            failed.append(name)
        rows |= {row.name: row for row in found or ()}
        say(f"[{place}/{len(names)}] {name}: {time.monotonic() - started_s:.0f} s so far")
    write_results(list(rows.values()), failed=failed)
    print(to_table(list(rows.values())))
    missed = [row.name for row in rows.values() if row.met is False]
    if missed:
        say(f"{len(missed)} of {len(rows)} rows missed their target: {'; '.join(missed)}")
    if failed:
        say(f"failed: {', '.join(failed)}")
    return 1 if failed else 0


def run_bench(name: str) -> list[Row] | None:
    """A benchmark's rows; None where it failed or took longer than LONGEST_S. What it prints is for stderr."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "rows.json"
        bench = subprocess.Popen(
            [sys.executable, str(HERE / f"bench_{name}.py"), "--json", str(out)],
            cwd=HERE.parent,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
            stdout=sys.stderr,
            start_new_session=True,  # so that nothing of it is left where it has to be ended
        )
        try:
            code = bench.wait(LONGEST_S)
        except subprocess.TimeoutExpired:
            code = None
        finally:
            end_all_of(bench)
        if code != 0 or not out.is_file():
            say(f"{name} failed, {f'longer than {LONGEST_S:.0f} s' if code is None else f'exit code {code}'}")
            return None
        return read_rows(out)


def end_all_of(bench: subprocess.Popen[bytes]) -> None:
    """End a benchmark that still runs, with its children."""
    if bench.poll() is None:
        os.killpg(bench.pid, signal.SIGKILL)
        bench.wait()


def read_rows(path: Path) -> list[Row]:
    """The rows of a benchmark's JSON, or of all results; none where there is no file."""
    if not path.is_file():
        return []
    document = json.loads(path.read_text(encoding="utf-8"))
    return [Row(**row) for row in (document["rows"] if isinstance(document, dict) else document)]


def write_results(rows: Sequence[Row], *, failed: Sequence[str]) -> None:
    """Replace results.json and the table in the README."""
    RESULTS.write_text(json.dumps([asdict(row) for row in rows], indent=2) + "\n", encoding="utf-8")
    before, _, rest = README.read_text(encoding="utf-8").partition(BEGIN)
    after = rest.partition(END)[2]
    README.write_text(before + results_text(rows, describe_machine(), failed=failed) + after, encoding="utf-8")


def results_text(rows: Sequence[Row], machine: Mapping[str, str], *, failed: Sequence[str]) -> str:
    """The part of the README between its marks, marks included."""
    today = datetime.datetime.now(tz=datetime.UTC).date().isoformat()
    lines = [BEGIN, f"Last run on {today}: {in_words(machine)}.", "", to_table(rows)]
    if failed:
        lines += ["", f"Without {', '.join(failed)}, which failed."]
    return "\n".join([*lines, END])


def say(text: str) -> None:
    """Progress goes to stderr; stdout has the table."""
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
