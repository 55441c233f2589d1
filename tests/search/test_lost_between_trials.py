"""A worker is lost between two trials, upon which Ray Tune makes an error of the second one."""

import os
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from search.follow import follow
from search.launch import run_search
from search.plan import SearchPlan
from spaces.loading import parse_space
from trainables.data.table import FaceTable
from trainables.trial import Trial

SPACE = parse_space("""
name: short
parameters: {optimiser.lr: {log_uniform: [1.0e-4, 1.0e-2], default: 1.0e-3}}
fixed: {model.backbone: test_efficientnet, model.weights: none, model.image_px: 32, train.epochs: 1}
""")


@pytest.mark.ray
@pytest.mark.slow
def test_no_trial_fails_because_a_worker_was_lost_before_it(
    ray_local: None, face_table: FaceTable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    died = tmp_path / "died"

    class Mortal(Trial):
        """Its process ends when it is first given another trial."""

        def reset_config(self, new_config: dict[str, Any]) -> bool:
            if not died.exists():
                died.touch()
                os._exit(1)
            return super().reset_config(new_config)

    monkeypatch.setattr("search.launch.follow", partial(follow, worker=Mortal))

    outcome = run_search(
        SPACE, data=face_table.path, storage=tmp_path, name="mortal", plan=SearchPlan(n_trials=3, max_concurrent=1)
    )

    assert died.exists()
    assert [(record.trial_id, record.end) for record in outcome.records] == [
        (f"t{i:04d}", "completed") for i in range(3)
    ]
    assert not outcome.interrupted
    ends = [event for event in (outcome.folder.path / "study.jsonl").read_text().splitlines() if '"tell"' in event]
    assert len(ends) == 3
