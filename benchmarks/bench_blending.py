"""The exact blending weight against a grid of weights, scored one by one; class biases beside it.

    python benchmarks/bench_blending.py [--samples 5000] [--points 1001] [--many 100000] [--runs 15]

1. CPU milliseconds for the whole curve of macro-F1 over the blending weight, 6 classes. The peer is scikit-learn's
   f1_score at 1,001 weights from 0 to 1, the loop that a search of the weight on a grid is; it takes seconds and is run
   once. The curve must nowhere be below the grid's best, and at the middle of each of its intervals it must be what
   argmax and a count say there.
2. The same with the weight chosen on the smoothed curve; on 100,000 samples; and biases of all classes.

Where the time goes (cProfile, of 2 ms): a third in the corners of the samples' envelopes, a third in running counts,
the rest in checks, sorting and the predictions at both ends. Before, of 3 ms, two thirds were in the corners: samples
whose prediction is the same at both ends were followed too, though they can't change in between.
"""

import sys
from typing import Any

import numpy as np
import numpy.typing as npt
from measure import Target, bench_arguments, compare, cpu_seconds, medians_in_turn, report
from sklearn.metrics import f1_score

from search.ensemble.biases import best_class_biases
from search.ensemble.blending import best_blend_weight, blend, blend_curve
from search.ensemble.macro_f1 import macro_f1_of_probs
from search.ensemble.sweep import StepCurve

Floats = npt.NDArray[np.float64]
Labels = npt.NDArray[np.int64]

N_CLASSES = 6


def main() -> int:
    """Measure and print."""
    arguments = bench_arguments(__doc__, runs=15, samples=5000, points=1001, many=100_000)
    partner, fine_tuned, labels = make_pair(arguments.samples, seed=0)
    many = make_pair(arguments.many, seed=1)
    logs = np.log(blend(partner, fine_tuned, weight=0.5))
    cpu_s = medians_in_turn(
        {
            "curve": lambda: cpu_seconds(lambda: blend_curve(partner, fine_tuned, labels)),
            "weight": lambda: cpu_seconds(lambda: best_blend_weight(partner, fine_tuned, labels)),
            "biases": lambda: cpu_seconds(lambda: best_class_biases(logs, labels)),
            "many": lambda: cpu_seconds(lambda: blend_curve(*many)),
        },
        runs=arguments.runs,
    )
    grid: list[float] = []
    grid_s = cpu_seconds(lambda: grid.extend(grid_scores(partner, fine_tuned, labels, n_points=arguments.points)))
    curve = blend_curve(partner, fine_tuned, labels)
    check_curve(curve, partner, fine_tuned, labels=labels, grid=grid)
    name = f"exact blending, {arguments.samples:,} samples"
    return report(
        [
            compare(
                f"{name}, {len(curve.scores):,} intervals", 1000 * cpu_s["curve"], "CPU ms",
                peer=f"scikit-learn's f1_score at {arguments.points:,} weights", peer_value=1000 * grid_s,
                target=Target(ratio_at_least=500),
            ),
            compare("the same and the weight, from the smoothed curve", 1000 * cpu_s["weight"], "CPU ms"),
            compare(f"exact blending, {arguments.many:,} samples", 1000 * cpu_s["many"], "CPU ms"),
            compare(f"class biases, exact sweeps, {arguments.samples:,} samples", 1000 * cpu_s["biases"], "CPU ms"),
        ],
        arguments,
    )  # fmt: skip


def make_pair(n_samples: int, *, seed: int) -> tuple[Floats, Floats, Labels]:
    """Probabilities of two networks with shared errors, each better at some classes; and labels."""
    generator = np.random.default_rng(seed)
    shares = np.geomspace(1, 0.1, N_CLASSES)
    labels = generator.choice(N_CLASSES, size=n_samples, p=shares / shares.sum())
    logits = generator.normal(size=(n_samples, N_CLASSES)) + generator.normal(size=(2, n_samples, N_CLASSES))
    logits += generator.normal(scale=0.5, size=(2, 1, N_CLASSES))
    logits[:, np.arange(n_samples), labels] += 1.5
    exponents = np.exp(logits)
    partner, fine_tuned = exponents / exponents.sum(axis=2, keepdims=True)
    return partner, fine_tuned, labels


def grid_scores(partner: Floats, fine_tuned: Floats, labels: Labels, *, n_points: int) -> list[float]:
    """Macro-F1 at evenly spaced weights."""
    classes: list[Any] = list(range(N_CLASSES))
    return [
        f1_score(
            labels, (weight * partner + (1 - weight) * fine_tuned).argmax(axis=1),
            labels=classes, average="macro", zero_division=0,
        )
        for weight in np.linspace(0, 1, n_points)
    ]  # fmt: skip


def check_curve(curve: StepCurve, partner: Floats, fine_tuned: Floats, *, labels: Labels, grid: list[float]) -> None:
    """Stop where the curve is below the grid's best, or not what counting says at the middle of an interval."""
    best = max(float(curve.scores.max()), *curve.ends)
    assert best >= max(grid) - 1e-12, f"exact {best} is below the grid's {max(grid)}"
    for low, high, score in zip(curve.breakpoints[:-1], curve.breakpoints[1:], curve.scores, strict=True):
        mixed = blend(partner, fine_tuned, weight=(low + high) / 2)
        counted = macro_f1_of_probs(mixed[None], labels)[0]
        assert abs(counted - score) < 1e-12, f"curve says {score} between {low} and {high}, counting says {counted}"


if __name__ == "__main__":
    sys.exit(main())
