"""Greedy selection, ours against the loop one writes first, and against AutoGluon; and how far it goes.

    python benchmarks/bench_selection.py [--candidates 200] [--samples 5000] [--rounds 50] [--runs 5]
        [--autogluon PYTHON] [--large-candidates 1000] [--large-samples 50000]

1. CPU seconds for 200 candidates, 5,000 samples, 6 classes, 50 rounds, checks of the input included. The peers are a
   loop over scikit-learn's f1_score for each candidate in each round, with the same order among ties, and AutoGluon's
   EnsembleSelection at its defaults but for the rounds, with the same metric. The loop must pick the same candidates,
   AutoGluon (which settles ties at random) the same first one. Ours is the median of --runs; the peers, of a minute
   each, are run once. AutoGluon lives in an environment of its own: --autogluon, else benchmarks/peers/.venv.
2. The same with 1,000 candidates, 50,000 samples and 8 classes in single precision: CPU seconds, and the most memory
   that a process takes which makes such a pool, selects and ends.

Where the time goes (cProfile by CPU time, of 0.13 s): two thirds in trying the classes that could still win a sample,
a tenth in finding these, a tenth in laying the pool out, a twentieth in checking it. Before, of 0.4 s: 0.19 s in trying
all classes for every sample that some candidate could move, 0.14 s in counting one cell of a confusion matrix at a
time, 0.08 s in laying the pool out. Counts are matrix products now, so small that OpenBLAS does not share them among
threads: on a busy machine whole ones took 1 s of CPU, most of it in threads that waited for each other.
"""

import json
import multiprocessing
import subprocess
import sys
import tempfile
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from measure import Row, Target, bench_arguments, compare, cpu_seconds, medians_in_turn, not_measured, report
from sklearn.metrics import f1_score, log_loss

from search.ensemble.greedy import TIE, greedy_selection

FloatArray = npt.NDArray[np.floating[Any]]
IntArray = npt.NDArray[np.int64]

PEERS = Path(__file__).resolve().parent / "peers"
ENOUGH = Target(ratio_at_least=100)


def main() -> int:
    """Measure and print."""
    arguments = bench_arguments(
        __doc__, runs=5, candidates=200, samples=5000, rounds=50,
        autogluon="", large_candidates=1000, large_samples=50_000,
    )  # fmt: skip
    rounds = arguments.rounds
    probs, labels = make_pool(arguments.candidates, arguments.samples, n_classes=6, dtype=np.float64, seed=0)
    name = f"greedy selection, {arguments.candidates} candidates, {arguments.samples:,} samples, {rounds} rounds"
    seconds, picks = timed(lambda: greedy_selection(probs, labels, rounds=rounds).picks, runs=arguments.runs)
    loop_s, loop_picks = timed(lambda: naive_picks(probs, labels, rounds=rounds), runs=1)
    assert picks == loop_picks, f"selections differ: {picks} and {loop_picks}"
    row = compare(
        name, 1000 * seconds, "CPU ms",
        peer="scikit-learn's f1_score in a loop, same picks", peer_value=1000 * loop_s, target=ENOUGH,
    )  # fmt: skip
    against = against_autogluon(arguments, probs, labels, ours_s=seconds, first=picks[0])
    return report([row, against, *at_scale(arguments)], arguments)


def timed(select: Callable[[], tuple[int, ...]], *, runs: int) -> tuple[float, tuple[int, ...]]:
    """Median CPU seconds, and the picks."""
    picks: list[tuple[int, ...]] = []
    seconds = medians_in_turn({"": lambda: cpu_seconds(lambda: picks.append(select()))}, runs=runs, warm_ups=0)
    return seconds[""], picks[-1]


def make_pool(
    n_candidates: int, n_samples: int, *, n_classes: int, dtype: npt.DTypeLike, seed: int
) -> tuple[FloatArray, IntArray]:
    """Candidates of mixed quality with shared errors; probs [candidates, samples, classes], labels [samples].

    One candidate at a time, so that no more memory is needed than the pool takes.
    """
    generator = np.random.default_rng(seed)
    shares = np.geomspace(1, 0.1, n_classes)
    labels = generator.choice(n_classes, size=n_samples, p=shares / shares.sum())
    shared = generator.normal(size=(n_samples, n_classes))
    probs = np.empty((n_candidates, n_samples, n_classes), dtype=dtype)
    for one in probs:
        logits = shared + generator.normal(size=shared.shape)
        logits[np.arange(n_samples), labels] += generator.uniform(0.5, 2.0)
        exponents = np.exp(logits)
        one[:] = exponents / exponents.sum(axis=1, keepdims=True)
    return probs, labels


def naive_picks(probs: FloatArray, labels: IntArray, *, rounds: int) -> tuple[int, ...]:
    """Greedy selection over scikit-learn's metric, with the same order among ties."""
    classes = list(range(probs.shape[2]))
    total = np.zeros(probs.shape[1:])
    picks: list[int] = []
    trajectory: list[float] = []
    for size in range(1, rounds + 1):
        scores = np.array([
            f1_score(labels, ((total + one) / size).argmax(axis=1), labels=classes, average="macro", zero_division=0)
            for one in probs
        ])  # fmt: skip
        tied = np.flatnonzero(scores > scores.max() - TIE).tolist()
        tied = [pick for pick in tied if pick in picks] or tied
        if len(tied) > 1:
            losses = [log_loss(labels, (total + probs[candidate]) / size, labels=classes) for candidate in tied]
            tied = [tied[int(np.argmin(losses))]]
        picks.append(tied[0])
        trajectory.append(float(scores[tied[0]]))
        total += probs[tied[0]]
    n_kept = int(np.argmax(np.array(trajectory) > max(trajectory) - TIE)) + 1
    return tuple(picks[:n_kept])


def against_autogluon(arguments: Any, probs: FloatArray, labels: IntArray, *, ours_s: float, first: int) -> Row:
    """The row of AutoGluon's EnsembleSelection, which runs in a process of another environment."""
    python = Path(arguments.autogluon or PEERS / ".venv" / "bin" / "python")
    if not python.exists():
        why = "AutoGluon is not installed; benchmarks/README says how"
        return not_measured("the same against AutoGluon", "CPU ms", why=why, target=ENOUGH)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "pool.npz"
        np.savez(file, probs=probs, labels=labels)
        words = [str(python), str(PEERS / "autogluon_selection.py"), str(file), str(arguments.rounds)]
        told = json.loads(subprocess.run(words, check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()[-1])
    assert told["picks"][0] == first, f"first picks differ: {first} and {told['picks'][0]}"
    peer = f"AutoGluon {told['version']}, EnsembleSelection"
    return compare(
        "the same against AutoGluon", 1000 * ours_s, "CPU ms",
        peer=peer, peer_value=1000 * told["cpu_s"], target=ENOUGH,
    )  # fmt: skip


def at_scale(arguments: Any) -> list[Row]:
    """The rows of a large pool, made and used in a process of its own."""
    n_candidates, n_samples, rounds = arguments.large_candidates, arguments.large_samples, arguments.rounds
    with ProcessPoolExecutor(max_workers=1, mp_context=multiprocessing.get_context("spawn")) as processes:
        seconds, peak_mb = processes.submit(select_at_scale, n_candidates, n_samples, rounds).result()
    name = f"greedy selection, {n_candidates:,} candidates, {n_samples:,} samples, 8 classes, {rounds} rounds"
    return [
        compare(name, seconds, "CPU s", target=Target(value_at_most=300)),
        compare("most memory that its process took, pool included", peak_mb, "MB", target=Target(value_at_most=4000)),
    ]


def select_at_scale(n_candidates: int, n_samples: int, rounds: int) -> tuple[float, float]:
    """CPU seconds of a selection, and the most memory this process ever had resident, MB."""
    probs, labels = make_pool(n_candidates, n_samples, n_classes=8, dtype=np.float32, seed=1)
    seconds = cpu_seconds(lambda: greedy_selection(probs, labels, rounds=rounds))
    return seconds, peak_mb()


def peak_mb() -> float:
    """The most memory this process ever had resident, libraries included; MB of 10^6 bytes."""
    for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024 / 1e6
    raise RuntimeError("this benchmark needs Linux, whose /proc says how much memory a process had at most")


if __name__ == "__main__":
    sys.exit(main())
