"""The search that one writes from the tutorials of Ray Tune, Optuna and MLflow. Part of bench_trial_overhead.py.

    python benchmarks/stock_search.py --trials 64

A function that reports three times and leaves a checkpoint; OptunaSearch with its study in SQLite; MLflowLoggerCallback
with nested runs in SQLite; all else by default. The function imports torch, as any that trains does. Prints one JSON
line: seconds from the first trial's start until the last one's end, and the driver's memory after it.
"""

import argparse
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

EPOCHS = 3


def train(config: dict[str, Any]) -> None:
    """A trial without training."""
    import torch
    from ray import tune

    for epoch in range(1, EPOCHS + 1):
        score = 0.5 + 0.1 * config["label_smoothing"] + 0.01 * epoch
        report = {"macro_f1": score, "train_loss": 1.0 / epoch, "valid_loss": 1.1 / epoch}
        report |= {f"f1_{number}": score for number in range(6)}
        if epoch < EPOCHS:
            tune.report(report)
            continue
        with tempfile.TemporaryDirectory() as folder:
            torch.save({"weights": torch.zeros(1000)}, Path(folder) / "model.pt")
            tune.report(report, checkpoint=tune.Checkpoint.from_directory(folder))


def run(folder: Path, *, n_trials: int) -> dict[str, float]:
    """The search; seconds and memory."""
    import mlflow
    import optuna
    from measure import anonymous_mb
    from ray import tune
    from ray.air.integrations.mlflow import MLflowLoggerCallback
    from ray.tune.search.optuna import OptunaSearch

    class Clock(tune.Callback):
        """Notes when the first trial starts and the last ends."""

        began_s = ended_s = 0.0

        def on_trial_start(self, **info: Any) -> None:
            """A trial starts."""
            self.began_s = self.began_s or time.time()

        def on_trial_complete(self, **info: Any) -> None:
            """A trial has ended."""
            self.ended_s = time.time()

    uri = f"sqlite:///{folder}/mlflow.db"
    mlflow.set_tracking_uri(uri)
    mlflow.set_experiment("stock")
    parent = mlflow.MlflowClient().create_run(mlflow.get_experiment_by_name("stock").experiment_id).info.run_id
    clock = Clock()
    tuner = tune.Tuner(
        tune.with_resources(train, {"cpu": 1}),
        param_space={
            "backbone": tune.choice(["a", "b", "c", "d", "e", "f"]),
            "lr": tune.loguniform(2e-4, 1e-2),
            "label_smoothing": tune.uniform(0.0, 0.6),
            "class_weight_exponent": tune.uniform(0.0, 1.5),
            "subsample_ratio": tune.choice([0.1, 0.2, 0.5, 1.0]),
            "partner": tune.choice(["none", "head"]),
            "blending_weight": tune.uniform(0.0, 1.0),
        },
        tune_config=tune.TuneConfig(
            metric="macro_f1",
            mode="max",
            num_samples=n_trials,
            search_alg=OptunaSearch(storage=optuna.storages.RDBStorage(f"sqlite:///{folder}/optuna.db")),
        ),
        run_config=tune.RunConfig(
            name="stock",
            storage_path=str(folder / "runs"),
            callbacks=[
                MLflowLoggerCallback(tracking_uri=uri, experiment_name="stock", tags={"mlflow.parentRunId": parent}),
                clock,  # after MLflow has been told
            ],
        ),
    )
    results = tuner.fit()
    assert len(results) == n_trials and results.num_errors == 0
    return {"seconds": clock.ended_s - clock.began_s, "memory_mb": anonymous_mb(), "cpu_s": time.process_time()}


def main() -> int:
    """Run it once; what the libraries print goes to stderr."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=64)
    arguments = parser.parse_args()
    os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "MLFLOW_DISABLE_TELEMETRY": "true"}  # nobody's network is waited for
    stdout = os.dup(1)
    os.dup2(2, 1)
    with tempfile.TemporaryDirectory() as name:
        found = run(Path(name), n_trials=arguments.trials)
    os.write(stdout, json.dumps(found).encode() + b"\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
