"""What every benchmark shares: rows, medians of runs taken in turn, the machine, a Markdown table, a JSON file.

A benchmark's `main` measures, then hands its rows to `report`:

    arguments = bench_arguments(__doc__, runs=5)
    times = medians_in_turn({"ours": ..., "peer": ...}, runs=arguments.runs)
    return report([compare("...", times["ours"], "s", peer="...", peer_value=times["peer"], ...)], arguments)
"""

import argparse
import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

LIBRARIES = ("torch", "ray", "optuna", "mlflow", "numpy")


@dataclass(frozen=True)
class Row:
    """One measured thing, plain values as they stand in `results.json`.

    Attributes:
        name: what was measured.
        value: ours, in `unit`; None where it could not be measured here.
        unit: of `value` and `peer_value`.
        peer: what it is held against; empty for nothing.
        peer_value: the peer's, in `unit`.
        ratio: of the two, the way round in which `target` is worded.
        target: what has to be reached, in words; empty where the row is only to be known.
        met: whether it was; None where there is no target or no value.
    """

    name: str
    value: float | None
    unit: str
    peer: str = ""
    peer_value: float | None = None
    ratio: float | None = None
    target: str = ""
    met: bool | None = None


@dataclass(frozen=True)
class Target:
    """Bounds on a row's ratio and value, those that are not None."""

    ratio_at_least: float | None = None
    ratio_at_most: float | None = None
    value_at_least: float | None = None
    value_at_most: float | None = None

    def in_words(self, unit: str) -> str:
        """Such as `ratio at least 20, value at most 0.25 s`."""
        bounds = {name: bound for name, bound in asdict(self).items() if bound is not None}
        words = []
        for name, bound in bounds.items():
            unit_of = f" {unit}" if name.startswith("value") else ""
            words.append(f"{name.replace('_', ' ')} {bound:g}{unit_of}")
        return ", ".join(words)

    def is_met(self, *, value: float, ratio: float | None) -> bool:
        """Whether all bounds are kept; a bound on a ratio that is not there is not kept."""
        kept = [
            (self.ratio_at_least, ratio, 1), (self.ratio_at_most, ratio, -1),
            (self.value_at_least, value, 1), (self.value_at_most, value, -1),
        ]  # fmt: skip
        return all(got is not None and sign * got >= sign * bound for bound, got, sign in kept if bound is not None)


def compare(
    name: str,
    value: float,
    unit: str,
    *,
    peer: str = "",
    peer_value: float | None = None,
    is_smaller_better: bool = True,
    target: Target | None = None,
) -> Row:
    """A measured row.

    Args:
        name: what was measured.
        value: ours.
        unit: of both.
        peer: what it is held against.
        peer_value: its.
        is_smaller_better: whether the ratio is the peer's over ours (so many times less), else ours over the peer's.
        target: what has to be reached.
    """
    ratio = None
    if peer_value is not None:
        above, below = (peer_value, value) if is_smaller_better else (value, peer_value)
        ratio = above / below if below else None
    words = target.in_words(unit) if target else ""
    met = target.is_met(value=value, ratio=ratio) if target else None
    return Row(name, value, unit, peer, peer_value, ratio, words, met)


def not_measured(name: str, unit: str, *, why: str, target: Target | None = None) -> Row:
    """A row that stays empty on this machine, and says so in its name."""
    return Row(f"{name} ({why})", None, unit, target=target.in_words(unit) if target else "")


def medians_in_turn(works: Mapping[str, Callable[[], float]], *, runs: int, warm_ups: int = 1) -> dict[str, float]:
    """The median of each work's own number; the works take turns, so that what disturbs one disturbs all.

    Args:
        works: by name; each does its work once and returns what it measured of it.
        runs: of each.
        warm_ups: of each before, not counted.
    """
    numbers: dict[str, list[float]] = {name: [] for name in works}
    for turn in range(warm_ups + runs):
        for name, work in works.items():
            number = work()
            if turn >= warm_ups:
                numbers[name].append(number)
    return {name: statistics.median(of_work) for name, of_work in numbers.items()}


def cpu_seconds(work: Callable[[], object]) -> float:
    """CPU seconds of this process, all threads, that a work takes."""
    started_s = time.process_time()
    work()
    return time.process_time() - started_s


def wall_seconds(work: Callable[[], object]) -> float:
    """Seconds that a work takes."""
    started_s = time.perf_counter()
    work()
    return time.perf_counter() - started_s


def anonymous_mb() -> float:
    """Memory that this process shares with no file and no other process, MB; `ps` counts libraries too."""
    for line in Path("/proc/self/smaps_rollup").read_text(encoding="utf-8").splitlines():
        if line.startswith("Anonymous:"):
            return int(line.split()[1]) / 1024
    raise RuntimeError("this benchmark needs Linux, whose /proc says how much memory is anonymous")


def bench_arguments(doc: str | None, *, runs: int, **options: Any) -> argparse.Namespace:
    """The command line of a benchmark: `--runs`, `--json`, and one option for each default in `options`."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=runs, help=f"of each side, taken in turn (default {runs})")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the rows and the machine there")
    for name, default in options.items():
        parser.add_argument(
            f"--{name.replace('_', '-')}", type=type(default), default=default, help=f"(default {default})"
        )
    return parser.parse_args()


def report(rows: Sequence[Row], arguments: argparse.Namespace) -> int:
    """Print the rows as a table with the machine, write `--json` if asked; an exit code, 0."""
    machine = describe_machine()
    print(f"\n{in_words(machine)}\n\n{to_table(rows)}", flush=True)
    if arguments.json is not None:
        document = {"machine": machine, "rows": [asdict(row) for row in rows]}
        arguments.json.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    return 0


def to_table(rows: Sequence[Row]) -> str:
    """Rows as a Markdown table."""
    lines = ["| what | ours | against | its | ratio | target | met |", "|---|---:|---|---:|---:|---|---|"]
    for row in rows:
        met = {True: "yes", False: "**no**", None: ""}[row.met]
        ours, its = _with_unit(row.value, row.unit), _with_unit(row.peer_value, row.unit)
        cells = (row.name, ours, row.peer, its, _number(row.ratio), row.target, met)
        lines.append(f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |")
    return "\n".join(lines)


def describe_machine() -> dict[str, str]:
    """Processor, cores, memory, GPU and versions; nothing that says whose machine it is."""
    gib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    machine = {
        "processor": _processor(),
        "cores": str(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()),
        "memory": f"{gib:.0f} GiB",
        "gpu": _gpu(),
        "python": platform.python_version(),
    }
    for library in LIBRARIES:
        try:
            machine[library] = metadata.version(library)
        except metadata.PackageNotFoundError:
            continue
    return machine


def in_words(machine: Mapping[str, str]) -> str:
    """The machine in a line."""
    versions = ", ".join(f"{name} {machine[name]}" for name in ("python", *LIBRARIES) if name in machine)
    gpu = f", {machine['gpu']}" if machine["gpu"] else ", no GPU"
    return f"{machine['processor']}, {machine['cores']} cores, {machine['memory']}{gpu}; {versions}"


def _processor() -> str:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in text.splitlines() if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _gpu() -> str:
    if not Path("/proc/driver/nvidia").exists():  # PyTorch takes seconds to say the same
        return ""
    import torch

    return torch.cuda.get_device_name() if torch.cuda.is_available() else ""


def _with_unit(value: float | None, unit: str) -> str:
    return "" if value is None else f"{_number(value)} {unit}"


def _number(value: float | None) -> str:
    """Three digits that count; thousands whole."""
    if value is None:
        return ""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
