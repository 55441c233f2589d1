"""Greedy selection, ours against the loop one writes first: scikit-learn's f1_score for each candidate in each round.

    python benchmarks/bench_selection.py [--candidates M] [--samples N] [--rounds R] [--repeats K]

Both run in turn in one process on the same made-up pool and must pick the same candidates. Prints the medians and the
ratio.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from sklearn.metrics import f1_score, log_loss

from search.ensemble.selection import TIE, greedy_selection

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

N_CLASSES = 6


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="greedy selection against a loop over scikit-learn's f1_score")
    parser.add_argument("--candidates", type=int, default=50)
    parser.add_argument("--samples", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args()
    probs, labels = make_pool(args.candidates, args.samples, seed=0)

    ours_s, naive_s = [], []
    for _ in range(args.repeats):
        ours, seconds = timed(lambda: greedy_selection(probs, labels, rounds=args.rounds).picks)
        ours_s.append(seconds)
        naive, seconds = timed(lambda: naive_picks(probs, labels, rounds=args.rounds))
        naive_s.append(seconds)
        assert ours == naive, f"selections differ: {ours} and {naive}"
    ours_median, naive_median = statistics.median(ours_s), statistics.median(naive_s)
    print(f"{args.candidates} candidates, {args.samples:,} samples, {args.rounds} rounds, {args.repeats} repeats")
    print(f"ours          {ours_median * 1000:10.1f} ms")
    print(f"sklearn loop  {naive_median * 1000:10.1f} ms")
    print(f"ratio         {naive_median / ours_median:10.1f}, same selection: {len(ours)} picks")


def make_pool(n_candidates: int, n_samples: int, *, seed: int) -> tuple[FloatArray, IntArray]:
    """Candidates of mixed quality with shared errors; probs [candidates, samples, classes], labels [samples]."""
    generator = np.random.default_rng(seed)
    shares = np.geomspace(1, 0.1, N_CLASSES)
    labels = generator.choice(N_CLASSES, size=n_samples, p=shares / shares.sum())
    shared = generator.normal(size=(1, n_samples, N_CLASSES))
    logits = shared + generator.normal(size=(n_candidates, n_samples, N_CLASSES))
    logits[:, np.arange(n_samples), labels] += generator.uniform(0.5, 2.0, size=(n_candidates, 1))
    exponents = np.exp(logits)
    return exponents / exponents.sum(axis=2, keepdims=True), labels


def naive_picks(probs: FloatArray, labels: IntArray, *, rounds: int) -> tuple[int, ...]:
    """Greedy selection over scikit-learn's metric, with the same order among ties."""
    classes = list(range(N_CLASSES))
    total = np.zeros(probs.shape[1:])
    picks: list[int] = []
    trajectory: list[float] = []
    for size in range(1, rounds + 1):
        votes = [(total + one) / size for one in probs]
        scores = np.array(
            [f1_score(labels, vote.argmax(axis=1), labels=classes, average="macro", zero_division=0) for vote in votes]
        )
        tied = np.flatnonzero(scores > scores.max() - TIE).tolist()
        tied = [pick for pick in tied if pick in picks] or tied
        if len(tied) > 1:
            losses = [log_loss(labels, votes[candidate], labels=classes) for candidate in tied]
            tied = [tied[int(np.argmin(losses))]]
        picks.append(tied[0])
        trajectory.append(float(scores[tied[0]]))
        total += probs[tied[0]]
    n_kept = int(np.argmax(np.array(trajectory) > max(trajectory) - TIE)) + 1
    return tuple(picks[:n_kept])


def timed(work: Callable[[], tuple[int, ...]]) -> tuple[tuple[int, ...], float]:
    """The work's result and the seconds it took."""
    started = time.perf_counter()
    result = work()
    return result, time.perf_counter() - started


if __name__ == "__main__":
    main()
