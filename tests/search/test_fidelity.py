"""Whether heads told the truth: rank correlation by backbone."""

from collections.abc import Sequence

import pytest

from search.ends import TrialEnd
from search.fidelity import in_words, measure_fidelity, rank_correlation
from search.folder import TrialRecord
from spaces.config import TrialConfig


def trained(
    number: int, scores: Sequence[float], *, end: TrialEnd = "completed", backbone: str = "resnet18"
) -> TrialRecord:
    record = TrialRecord(f"t{number:04d}", number, {}, TrialConfig.from_flat({"model.backbone": backbone}).to_flat())
    for epoch, _ in enumerate(scores, start=1):
        record.add_epoch({"epoch": epoch, "best/macro_f1": max(scores[:epoch]), "best/epoch": epoch})
    record.end = end
    return record


def test_same_order_has_correlation_1_and_the_opposite_one_minus_1() -> None:
    assert rank_correlation([0.1, 0.2, 0.3, 0.4], [0.5, 0.55, 0.7, 0.9]) == pytest.approx(1.0)
    assert rank_correlation([0.1, 0.2, 0.3, 0.4], [0.9, 0.7, 0.55, 0.5]) == pytest.approx(-1.0)


@pytest.mark.parametrize(
    ("heads", "full"), [([0.1, 0.2, 0.3], [0.1, 0.2, 0.3]), ([0.1] * 4, [0.1, 0.2, 0.3, 0.4])], ids=["few", "flat"]
)
def test_correlation_is_unknown_where_nothing_can_be_said(heads: list[float], full: list[float]) -> None:
    assert rank_correlation(heads, full) is None


def test_backbones_are_told_apart() -> None:
    records = [trained(n, [0.1 * n], backbone="resnet18") for n in range(4)]
    records += [trained(n, [0.9 - 0.1 * n], backbone="lcnet_050") for n in range(4, 8)]
    heads = {record.trial_id: 0.1 * record.number for record in records}

    found = measure_fidelity(records, heads)

    assert list(found) == ["resnet18", "lcnet_050"]
    assert found["resnet18"].rank_correlation == pytest.approx(1.0)
    assert found["lcnet_050"].rank_correlation == pytest.approx(-1.0)


def test_stopped_trials_are_compared_after_as_many_epochs_as_all_had() -> None:
    records = [
        trained(0, [0.1, 0.9]),  # late, but the worst after its first epoch
        trained(1, [0.2], end="stopped"),
        trained(2, [0.3], end="stopped"),
        trained(3, [0.4], end="stopped"),
    ]

    found = measure_fidelity(records, {record.trial_id: 0.1 * record.number for record in records})

    assert (found["resnet18"].compared, found["resnet18"].after_epoch) == ("after_epoch", 1)
    assert found["resnet18"].rank_correlation == pytest.approx(1.0)


def test_completed_trials_alone_count_where_there_are_enough() -> None:
    records = [trained(n, [0.1 * n, 0.2 * n]) for n in range(4)] + [trained(4, [0.01], end="stopped")]

    found = measure_fidelity(records, {record.trial_id: 0.1 * record.number for record in records})

    assert (found["resnet18"].n_trials, found["resnet18"].compared) == (4, "completed")


def test_words_say_where_too_few_trials_tell_nothing() -> None:
    found = measure_fidelity([trained(0, [0.3])], {"t0000": 0.2})

    assert in_words(found) == ["resnet18: not told by 1 trials after epoch 1 (at least 4 that differ are needed)"]
