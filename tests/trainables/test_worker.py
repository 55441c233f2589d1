"""What a worker's process has done before its first trial."""

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

PROGRAM = """
import gc, json, sys, time
import trainables.trial
from trainables.worker import warm_up

warm_up()
started_s = time.process_time()
gc.collect()
collected_s = time.process_time() - started_s
import trainables.data.augment as augment
before = set(sys.modules)
from spaces.training_sections import AugmentConfig
augment.Augmenter(AugmentConfig())
print(json.dumps({"collected_s": collected_s, "n_frozen": gc.get_freeze_count(), "new": len(set(sys.modules) - before),
                  "foreign": [name for name in ("mlflow", "optuna") if name in sys.modules]}))
"""


def test_warm_worker_loads_nothing_more_and_collects_garbage_in_no_time() -> None:
    ended = subprocess.run([sys.executable, "-c", PROGRAM], cwd=ROOT, capture_output=True, text=True, check=True)

    found = json.loads(ended.stdout.splitlines()[-1])
    assert found["collected_s"] < 0.05
    assert found["n_frozen"] > 100_000
    assert found["new"] == 0
    assert found["foreign"] == []
