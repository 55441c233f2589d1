"""Greedy selection, ours against the loop one writes first: scikit-learn's f1_score for each candidate in each round.

    python benchmarks/bench_selection.py [--candidates M] [--samples N] [--rounds R] [--runs K]

Both run in turn in one process on the same made-up pool and must pick the same candidates. Prints the medians and the
ratio.
"""

import sys

import numpy as np
import numpy.typing as npt
from measure import bench_arguments, compare, cpu_seconds, medians_in_turn, report
from sklearn.metrics import f1_score, log_loss

from search.ensemble.selection import TIE, greedy_selection

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

N_CLASSES = 6


def main() -> int:
    """Measure and print."""
    arguments = bench_arguments(__doc__, runs=3, candidates=50, samples=2000, rounds=10)
    probs, labels = make_pool(arguments.candidates, arguments.samples, seed=0)
    picks: dict[str, tuple[int, ...]] = {}

    def ours() -> None:
        picks["ours"] = greedy_selection(probs, labels, rounds=arguments.rounds).picks

    def naive() -> None:
        picks["naive"] = naive_picks(probs, labels, rounds=arguments.rounds)

    works = {"ours": lambda: cpu_seconds(ours), "naive": lambda: cpu_seconds(naive)}
    seconds = medians_in_turn(works, runs=arguments.runs, warm_ups=0)
    assert picks["ours"] == picks["naive"], f"selections differ: {picks}"
    name = (
        f"greedy selection, {arguments.candidates} candidates, {arguments.samples:,} samples, {arguments.rounds} rounds"
    )
    row = compare(
        name, 1000 * seconds["ours"], "CPU ms",
        peer="scikit-learn's f1_score in a loop, same picks", peer_value=1000 * seconds["naive"],
    )  # fmt: skip
    return report([row], arguments)


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


if __name__ == "__main__":
    sys.exit(main())
