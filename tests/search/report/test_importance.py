"""What a parameter explains is told from what chance would."""

from collections.abc import Callable

import numpy as np

from search.folder import SearchFolder, TrialRecord
from search.ranking import usable
from search.report.importance import measure_importance
from spaces.loading import parse_space


def test_parameter_that_decides_stands_out_and_the_others_do_not(made_search: Callable[..., SearchFolder]) -> None:
    folder = made_search(n_trials=120)

    found = measure_importance(folder.read_space(), usable(folder.read_records()))

    assert found[0].name == "optimiser.lr" and found[0].share > 0.3 and found[0].stands_out
    quiet = [each for each in found if each.name in ("loss.label_smoothing", "model.drop_rate", "optimiser.name")]
    assert len(quiet) == 3 and max(each.share for each in quiet) < 0.2


def test_chance_explains_much_of_few_trials() -> None:
    space = parse_space(
        "name: few\nparameters:\n  loss.label_smoothing: {uniform: [0.0, 0.5], default: 0.1}\n", where="few"
    )
    generator = np.random.default_rng(0)

    def n_standing_out(n_trials: int) -> int:
        count = 0
        for _ in range(20):
            trials = [
                TrialRecord(f"t{i:04d}", i, {"loss.label_smoothing": float(generator.random() / 2)}, {},
                            best_macro_f1=float(generator.random()))
                for i in range(n_trials)
            ]  # fmt: skip
            count += measure_importance(space, trials)[0].stands_out
        return count

    assert n_standing_out(10) <= 4
    assert n_standing_out(60) <= 4


def test_nothing_is_said_of_too_few_trials_or_of_what_never_varied(made_search: Callable[..., SearchFolder]) -> None:
    folder = made_search(n_trials=60)
    space, records = folder.read_space(), usable(folder.read_records())
    same = [record for record in records if record.values["model.backbone"] == "resnet18"]

    assert measure_importance(space, records[:5]) == []
    assert "model.backbone" not in [each.name for each in measure_importance(space, same)]
    assert {each.n_trials for each in measure_importance(space, records) if each.name == "optimiser.sam_rho"} != {
        len(records)
    }
