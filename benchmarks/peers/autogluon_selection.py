"""AutoGluon's EnsembleSelection on a pool from a file. Part of bench_selection.py; needs autogluon.core alone.

    PYTHON benchmarks/peers/autogluon_selection.py POOL.npz ROUNDS

Prints one JSON line: CPU seconds of the fitting alone, the candidates picked, AutoGluon's version.
"""

import json
import sys
import time
from importlib import metadata

import numpy as np
from autogluon.core.metrics import make_scorer
from autogluon.core.models.greedy_ensemble.ensemble_selection import EnsembleSelection
from sklearn.metrics import f1_score


def main() -> int:
    """Fit once and print."""
    file, rounds = sys.argv[1], int(sys.argv[2])
    with np.load(file) as pool:
        probs, labels = list(pool["probs"]), pool["labels"]
    classes = list(range(probs[0].shape[1]))

    def macro_f1(truth: np.ndarray, preds: np.ndarray) -> float:
        return float(f1_score(truth, preds, labels=classes, average="macro", zero_division=0))

    selection = EnsembleSelection(rounds, "multiclass", make_scorer("macro_f1_of_fixed_classes", macro_f1))
    started_s = time.process_time()
    selection.fit(probs, labels)
    cpu_s = time.process_time() - started_s
    picks = [int(pick) for pick in selection.indices_]
    print(json.dumps({"cpu_s": cpu_s, "picks": picks, "version": metadata.version("autogluon.core")}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
