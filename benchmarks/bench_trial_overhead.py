"""What a trial costs beside its training, ours against the search that one writes from the tutorials.

    python benchmarks/bench_trial_overhead.py [--runs 3] [--trials 64] [--many 1000]

Trials that train nothing: three reports, a checkpoint, a proposal of Optuna's, a run in MLflow with its parameters and
metrics. Ours is all of `affectune search` but the trainer (noop_search.py): Ray Tune, sampler, journal, records,
console, MLflow in SQLite, the search's folder. The peer is Ray Tune as its tutorials have it (stock_search.py): a
function trainable, OptunaSearch with its study in SQLite, MLflowLoggerCallback in SQLite, nothing changed. On two cores
both take two trials at once. Seconds from the first trial's start until MLflow has the last one's end, divided by
trials: the start of Ray, of the first worker and of MLflow is aside, and so is the end of Ray's workers. Each search
runs in a process of its own; the peer once, since it takes minutes, ours of 64 trials before and after. Memory is the
driver's anonymous memory when its search has ended. A worker waits from a trial's last report until the next is there.
"""

import json
import statistics
import subprocess
import sys
from pathlib import Path

from measure import Target, bench_arguments, compare, report

HERE = Path(__file__).resolve().parent


def main() -> int:
    """Measure and print."""
    arguments = bench_arguments(__doc__, runs=3, trials=64, many=1000)
    few = [search("noop", arguments.trials) for _ in range(max(1, arguments.runs - 1))]
    many = search("noop", arguments.many)
    stock = search("stock", arguments.trials)
    few.append(search("noop", arguments.trials))
    ours_s = statistics.median(run["seconds"] for run in few) / arguments.trials
    many_s, stock_s = many["seconds"] / arguments.many, stock["seconds"] / arguments.trials
    memory_mb = statistics.median(run["memory_mb"] for run in few)
    rows = [
        compare(
            f"a trial without training, {arguments.trials} trials", ours_s, "s",
            peer="Ray Tune, OptunaSearch and MLflowLoggerCallback as they come", peer_value=stock_s,
            target=Target(ratio_at_least=20, value_at_most=0.25),
        ),
        compare(
            f"the same, {arguments.many} trials", many_s, "s",
            peer=f"ours, {arguments.trials} trials", peer_value=ours_s, is_smaller_better=False,
            target=Target(ratio_at_most=1.2),
        ),
        compare(
            f"driver's memory that {arguments.many - arguments.trials} trials more take",
            many["memory_mb"] - memory_mb, "MB", target=Target(value_at_most=100),
        ),
        compare("a worker waits between two trials", 1000 * many["waits_s"], "ms"),
    ]  # fmt: skip
    return report(rows, arguments)


def search(side: str, n_trials: int) -> dict[str, float]:
    """One search in a process of its own, which says what it took."""
    words = [sys.executable, str(HERE / f"{side}_search.py"), "--trials", str(n_trials)]
    ended = subprocess.run(words, cwd=HERE.parent, capture_output=True, text=True)
    if ended.returncode:
        raise RuntimeError(f"{side} search failed:\n{ended.stderr[-3000:]}")
    found: dict[str, float] = json.loads(ended.stdout.splitlines()[-1])
    print(f"{side}, {n_trials} trials: {found['seconds'] / n_trials:.3f} s a trial, {found['memory_mb']:.0f} MB")
    return found


if __name__ == "__main__":
    sys.exit(main())
