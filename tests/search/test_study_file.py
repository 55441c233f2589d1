"""The study as Optuna's own tools see it."""

from datetime import datetime
from pathlib import Path

import optuna
import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from search.sampler import StudySampler
from search.study_file import write_study
from spaces.loading import parse_space

SPACE = parse_space("""
name: two
parameters:
  optimiser.lr: {log_uniform: [1.0e-4, 1.0e-1], default: 1.0e-3}
  partner:
    choice:
      none: {blend.partner: none}
      head: {blend.partner: head, train.head_epochs: 1}
    default: none
  blend.weight: {uniform: [0.0, 1.0], default: 0.3, when: {partner: head}}
""")


def sampler() -> StudySampler:
    """One completed, one stopped, one failed, one that runs."""
    made = StudySampler(SPACE, seed=0)
    for number in range(4):
        made.ask(f"t{number:04d}")
    made.report("t0001", 1, 0.2)
    made.tell("t0000", "completed", value=0.5)
    made.tell("t0001", "stopped", value=0.3, epoch=2)
    made.tell("t0002", "failed")
    return made


def test_optuna_reads_the_study_from_its_file(tmp_path: Path) -> None:
    before = sampler().study

    write_study(before, tmp_path / "optuna.log", name="faces")

    read = optuna.load_study(
        study_name="faces", storage=JournalStorage(JournalFileBackend(str(tmp_path / "optuna.log")))
    )
    assert [trial.state.name for trial in read.trials] == ["COMPLETE", "PRUNED", "FAIL", "RUNNING"]
    assert [trial.params for trial in read.trials] == [trial.params for trial in before.trials]
    assert read.trials[1].intermediate_values == {1: 0.2, 2: 0.3}
    assert [trial.user_attrs["trial_id"] for trial in read.trials] == ["t0000", "t0001", "t0002", "t0003"]
    assert (read.best_value, read.direction.name, read.metric_names) == (0.5, "MAXIMIZE", ["macro-F1"])


def test_trials_have_the_times_at_which_they_ran(tmp_path: Path) -> None:
    times = {"t0000": (1000.0, 1060.0), "t0003": (1030.0, None)}

    write_study(sampler().study, tmp_path / "optuna.log", name="faces", times=times)

    storage = JournalStorage(JournalFileBackend(str(tmp_path / "optuna.log")))
    read = optuna.load_study(study_name="faces", storage=storage).trials
    assert read[0].duration is not None and read[0].duration.total_seconds() == 60.0
    assert [read[n].datetime_start for n in (0, 3)] == [datetime.fromtimestamp(at_s) for at_s in (1000.0, 1030.0)]
    assert read[3].datetime_complete is None


def test_file_is_replaced_without_a_word_and_leaves_nothing_beside(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    for _ in range(2):
        write_study(sampler().study, tmp_path / "optuna.log", name="faces")

    assert capfd.readouterr() == ("", "")
    assert [file.name for file in tmp_path.iterdir()] == ["optuna.log"]
