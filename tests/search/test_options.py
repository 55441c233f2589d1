"""Ensembles to pick from by what they cost."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from search import options
from search.candidate_library import make_library
from search.candidates import Candidate
from search.comparison import Choice
from search.ensemble.calibration import calibrate
from search.ensemble.crossfit import cross_fit
from search.ensemble.estimate import judge
from search.ensemble.model_library import Library
from search.ensemble.selection import choose_uniform
from search.options import Limits, Option, list_options, pick_option
from spaces.config import TrialConfig
from spaces.errors import EnsembleError
from trainables.checkpoint import NetworkSpec, load_network, save_network
from trainables.data.table import FaceTable
from trainables.metrics import macro_f1
from trainables.models.backbones import build_network
from trainables.models.inputs import predict_logits
from trainables.scores import split_scores
from trainables.trainer import WEIGHTS_FILE

PLAIN = Option({"t0000": 0.6, "b001": 0.4}, "all", 1.2, 0.71, 0.68, 0.65, 0.70, ms=4.096, megabytes=12.06)


def named(name: str, estimate: float, ms: float, megabytes: float) -> Option:
    return replace(PLAIN, members={name: 1.0}, estimate=estimate, ms=ms, megabytes=megabytes)


def test_option_says_what_it_is_in_words() -> None:
    words = PLAIN.in_words()

    assert words == "2, all looks at a face, 4.10 ms an image, 12.1 MB, estimate 0.6800 (0.650 to 0.700)"
    unknown = replace(PLAIN, looks="one", estimate=None, low=None, high=None)
    assert unknown.in_words() == "2, one look at a face, 4.10 ms an image, 12.1 MB"


@pytest.mark.parametrize(
    ("limits", "words"),
    [
        (Limits(ms=5), "at most 5 ms an image"),
        (Limits(megabytes=12.5), "at most 12.5 MB"),
        (Limits(ms=0.5, members=2), "at most 0.5 ms an image and 2 members"),
    ],
    ids=["time", "size", "both"],
)
def test_limits_say_in_words_what_they_allow(limits: Limits, words: str) -> None:
    assert limits.in_words() == words
    assert not limits.are_none


def test_no_limits_allow_everything() -> None:
    assert Limits().are_none
    assert PLAIN.fits(Limits())


@pytest.mark.parametrize(
    ("limits", "fits"),
    [
        (Limits(ms=4.096), True),
        (Limits(ms=4.0), False),
        (Limits(megabytes=12.0), False),
        (Limits(members=2), True),
        (Limits(members=1), False),
        (Limits(ms=9, megabytes=99, members=1), False),
    ],
    ids=["just as long", "too long", "too large", "as many", "too many", "one of three"],
)
def test_option_fits_where_it_costs_no_more_than_it_may(limits: Limits, fits: bool) -> None:
    assert PLAIN.fits(limits) is fits


def test_pick_takes_the_best_that_fits_and_of_equals_the_quickest() -> None:
    listed = [
        named("slow", 0.7, 9.0, 9),
        named("good", 0.6, 3.0, 9),
        named("quick", 0.6, 2.0, 9),
        named("poor", 0.5, 1.0, 9),
    ]

    assert pick_option(listed, Limits(ms=5), where="faces").members == {"quick": 1.0}
    assert pick_option(listed, Limits(), where="faces").members == {"slow": 1.0}


def test_pick_goes_by_the_valid_faces_where_nothing_was_estimated() -> None:
    listed = [replace(PLAIN, estimate=None, valid=valid, members={str(valid): 1.0}) for valid in (0.5, 0.7)]

    assert pick_option(listed, Limits(), where="faces").valid == 0.7


def test_pick_names_the_cheapest_where_none_fits() -> None:
    listed = [named("quick", 0.6, 2.0, 30), named("small", 0.6, 5.0, 9.5)]

    with pytest.raises(EnsembleError) as caught:
        pick_option(listed, Limits(ms=1), where="runs/faces")

    assert str(caught.value) == (
        "some ensemble must keep within at most 1 ms an image, got none: runs/faces; "
        "the quickest takes 2.00 ms an image, the smallest 9.5 MB"
    )


Made = tuple[list[Candidate], Library, Choice]

SEEDS = (2, 12, 22)
"""Of three networks, of which the last is the best alone."""
LOOKS_ONCE = 2
"""Which of them looks once at a face; the others look ten times."""


@pytest.fixture(scope="module")
def made(face_table: FaceTable, tmp_path_factory: pytest.TempPathFactory) -> Made:
    """Three trials with untrained networks, and their average."""
    folder = tmp_path_factory.mktemp("trials")
    candidates = [_trial(folder, number, face_table) for number in range(3)]
    library = make_library(candidates, n_configs=3)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("search.ensemble.selection.LEAST_SHARE", 0.0)
        cross = cross_fit(library, {"uniform": choose_uniform})
    kind, weights = library.kinds[0], np.full(3, 1 / 3)
    judgement = judge(cross, library, among=["uniform"])
    found = judgement.estimate("uniform", library, weights)
    interval = [found.interval.low, found.interval.high]
    score = {"valid": found.chosen_on, "estimate": found.score, "estimate_interval": interval}
    calibration = calibrate(cross.probs[0][0], kind.faces.labels, kind.units)
    scores = {"ensemble": score}
    return (
        candidates,
        library,
        Choice("uniform", {"ensemble": weights}, scores, calibration=calibration, judgement=judgement),
    )


def _trial(folder: Path, number: int, table: FaceTable) -> Candidate:
    info, split = table.info, table.split("valid")
    looks: dict[str, Any] = {} if number == LOOKS_ONCE else {"mirror": True, "shift_px": 2}
    classes = tuple(info.classes)
    spec = NetworkSpec("test_efficientnet", classes, 32, 40, info.channels, info.mean, info.std, **looks)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEEDS[number])
        network = build_network(spec.backbone, n_classes=len(classes))
        torch.nn.init.normal_(network.heads.linear.weight, std=5.0)
    home = folder / f"t{number:04}"
    home.mkdir()
    save_network(home / WEIGHTS_FILE, network.state_dict(), spec)
    scores = split_scores(split, classes, predict_logits(network.eval(), split.images, spec), extras={})
    settings = {"model.mirror": number != LOOKS_ONCE, "optimiser.lr": 0.001 * (number + 1)}
    return Candidate(home.name, home, dict(TrialConfig().with_settings(settings).to_flat()), scores, is_complete=True)


@pytest.fixture(scope="module")
def listed(made: Made, face_table: FaceTable) -> list[Option]:
    candidates, library, choice = made
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("search.ensemble.selection.LEAST_SHARE", 0.0)
        return list_options(candidates, library, choice, face_table, seed=0, told=lambda step: lambda share: None)


def test_options_are_ensembles_of_one_to_all_members_with_all_looks_and_with_one(
    listed: list[Option], made: Made
) -> None:
    looks = sorted((len(option.members), option.looks) for option in listed)

    assert made[1].alone().argmax() == LOOKS_ONCE  # so that one look is no other option where it is alone
    assert looks == [(1, "all"), (2, "all"), (2, "one"), (3, "all"), (3, "one")]
    assert all(sum(option.members.values()) == pytest.approx(1) for option in listed)


def test_chosen_ensemble_is_among_the_options(listed: list[Option], made: Made) -> None:
    (chosen,) = [option for option in listed if option.is_chosen]

    score = made[2].scores["ensemble"]
    assert (chosen.looks, len(chosen.members)) == ("all", 3)
    assert (chosen.valid, chosen.estimate) == (score["valid"], score["estimate"])
    assert [chosen.low, chosen.high] == score["estimate_interval"]
    assert made[2].calibration is not None and chosen.temperature == made[2].calibration.temperature


def test_one_look_is_cheaper_and_changes_the_estimate_as_it_changes_the_score(
    listed: list[Option], made: Made, face_table: FaceTable
) -> None:
    (often,), (once,) = ([o for o in listed if len(o.members) == 3 and o.looks == looks] for looks in ("all", "one"))
    split = face_table.split("valid")
    votes = np.mean([candidate.probs_on(split.images, looks="one") for candidate in made[0]], axis=0)

    assert once.ms < often.ms / 2
    assert once.megabytes == often.megabytes
    assert once.valid == pytest.approx(macro_f1(split.expression, votes.argmax(axis=1), votes.shape[1]))
    assert once.estimate is not None and often.estimate is not None
    assert once.estimate - often.estimate == pytest.approx(once.valid - often.valid)
    assert not once.is_chosen


def test_options_come_cheapest_first_and_the_front_is_what_no_other_beats(listed: list[Option]) -> None:
    assert [option.ms for option in listed] == sorted(option.ms for option in listed)
    for option in listed:
        better = [
            other
            for other in listed
            if other.worth >= option.worth and other.ms <= option.ms and other.megabytes <= option.megabytes
            and (other.worth, other.ms, other.megabytes) != (option.worth, option.ms, option.megabytes)
        ]  # fmt: skip
        assert option.is_on_front is (better == [])
    assert any(option.is_on_front for option in listed)


def test_front_keeps_equals_and_drops_what_is_beaten() -> None:
    listed = [
        named("a", 0.6, 2.0, 9),
        named("twin", 0.6, 2.0, 9),
        named("slower", 0.6, 3.0, 9),
        named("small", 0.4, 4.0, 1),
    ]

    found = options._with_front(listed)

    assert {next(iter(option.members)): option.is_on_front for option in found} == {
        "a": True, "twin": True, "slower": False, "small": True,
    }  # fmt: skip


def test_what_choosing_the_method_lost_is_taken_off_smaller_ones_too(
    made: Made, face_table: FaceTable, listed: list[Option]
) -> None:
    candidates, library, choice = made
    assert choice.judgement is not None
    costlier = replace(choice, judgement=replace(choice.judgement, losses=np.full_like(choice.judgement.losses, 0.01)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("search.ensemble.selection.LEAST_SHARE", 0.0)
        found = list_options(candidates, library, costlier, face_table, seed=0, told=lambda step: lambda share: None)

    before, after = (
        {len(o.members): o.estimate or 0.0 for o in some if o.looks == "all" and not o.is_chosen}
        for some in (listed, found)
    )
    assert after[1] == pytest.approx(before[1] - 0.01)
    assert all(after[size] <= before[size] for size in before)


def test_no_option_is_expected_to_do_better_than_on_the_faces_it_was_chosen_by(listed: list[Option]) -> None:
    assert all((option.estimate or 0.0) <= option.valid for option in listed if option.looks == "all")


def test_option_that_is_the_same_as_another_is_told_of_once(made: Made, face_table: FaceTable) -> None:
    candidates, library, choice = made
    single = replace(choice, method="best_single")  # whatever the number of members allowed, it takes one

    found = list_options(candidates, library, single, face_table, seed=0, told=lambda step: lambda share: None)

    assert sorted(len(option.members) for option in found if option.looks == "all") == [1, 3]


def test_ensemble_of_one_that_looks_once_is_the_only_option(made: Made, face_table: FaceTable) -> None:
    candidates, _, choice = made
    alone = make_library(candidates[2:], n_configs=1)
    single = replace(choice, rows={"ensemble": np.ones(1)}, judgement=None, calibration=None)

    (option,) = list_options(candidates[2:], alone, single, face_table, seed=0, told=lambda step: lambda share: None)

    assert option.members == {"t0002": 1.0}
    assert (option.temperature, option.is_chosen, option.is_on_front) == (1.0, True, True)
    assert option.megabytes == pytest.approx(4e-6 * _n_numbers(candidates[2].voters[0].path))


def _n_numbers(path: Path) -> int:
    return sum(tensor.numel() for tensor in load_network(path)[0].state_dict().values())


def test_option_is_written_as_plain_values() -> None:
    document = PLAIN.to_document()

    assert Option(**document) == PLAIN
    assert document["members"] == {"t0000": 0.6, "b001": 0.4}
