"""A resumed search with another space: taken where it holds all trials so far, else refused, and nothing is changed."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from search.first import HandedOver, write_handed
from search.folder import MANIFEST_FILE, SPACE_FILE, STUDY_FILE, SearchFolder, SearchManifest
from search.plan import SearchPlan
from search.sampler import StudySampler
from search.space_change import take_space, unchanged_space
from search.state import load_state, new_record
from search.study_journal import StudyJournal, read_events
from spaces.errors import SpaceError
from spaces.loading import parse_space
from spaces.space import SearchSpace
from trainables.outputs import write_text

if TYPE_CHECKING:
    from trainables.data.table import FaceTable

TEXT = """
name: small
description: three dimensions
fixed: {model.backbone: test_efficientnet, model.weights: none, train.epochs: 2}
parameters:
  optimiser.lr: {log_uniform: [1.0e-4, 1.0e-2], default: 1.0e-3}
  loss.label_smoothing: {uniform: [0.0, 0.6], default: 0.1}
  data.subsample_ratio: {choice: [0.5, 1.0], default: 1.0}
"""
N_BEGUN = 6


def space_with(*changes: tuple[str, str]) -> SearchSpace:
    text = TEXT
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    return parse_space(text, where="new.yaml")


SPACE = space_with()
WIDER = space_with(
    ("[1.0e-4, 1.0e-2]", "[1.0e-5, 1.0e-1]"),
    (
        "  data.subsample_ratio: {choice: [0.5, 1.0], default: 1.0}\n",
        "  data.subsample_ratio: {uniform: [0.25, 1.0], default: 1.0}\n"
        "  train.batch_size: {integer: [16, 128], default: 16}\n",
    ),
)
"""A range is wider, a choice has become one, and there is another dimension."""
NARROWER = space_with(("[0.0, 0.6], default: 0.1", "[0.0, 0.05], default: 0.0"))


def manifest(**changes: Any) -> SearchManifest:
    fields = {"name": "cut", "data": "faces", "content_hash": "1", "classes": ("a", "b"), "seed": 0, "n_trials": 10}
    return SearchManifest(**{**fields, "time_budget_s": None, "tracking_uri": "sqlite:///x.db", **changes})


@pytest.fixture
def folder(tmp_path: Path) -> SearchFolder:
    """A search of six trials, the last one running, and one that was asked for and never begun."""
    there = SearchFolder(tmp_path / "cut")
    sampler = StudySampler(SPACE)
    for number in range(N_BEGUN + 1):
        trial_id = f"t{number:04d}"
        sampler.ask(trial_id)
        record = new_record(sampler, trial_id)
        if number < N_BEGUN - 1:
            score = 0.3 + 0.01 * number
            for epoch in (1, 2):
                record.add_epoch({"epoch": epoch, "samples_seen": 240 * epoch, "best/macro_f1": score, "best/epoch": 1})
                sampler.report(trial_id, epoch, score)
            record.end = "completed"
            sampler.tell(trial_id, "completed", value=score)
        if number < N_BEGUN:
            there.write_record(record)
    StudyJournal(there.path / STUDY_FILE, sampler.events).close()
    write_text(there.path / SPACE_FILE, SPACE.to_yaml())
    there.write_manifest(manifest())
    return there


def files_of(folder: SearchFolder) -> dict[str, bytes]:
    return {str(path.relative_to(folder.path)): path.read_bytes() for path in folder.path.rglob("*") if path.is_file()}


def test_manifest_knows_the_space_that_its_search_began_with(folder: SearchFolder) -> None:
    assert folder.read_manifest().space == SPACE.to_yaml()
    assert unchanged_space(folder, folder.read_manifest()) == SPACE


def test_space_that_holds_all_trials_is_taken_and_told(folder: SearchFolder) -> None:
    told_by, said = take_space(folder, folder.read_manifest(), WIDER)

    assert told_by == folder.read_manifest()
    assert unchanged_space(folder, told_by) == WIDER
    assert said.startswith("the space is another now, and holds all 6 trials so far: optimiser.lr was between 0.0001")
    assert "train.batch_size was not in it, is whole, between 16 and 128" in said


def test_trials_stand_in_the_new_space_with_the_configs_they_had(folder: SearchFolder) -> None:
    before = folder.read_records()

    take_space(folder, folder.read_manifest(), WIDER)

    state = load_state(folder, WIDER, seed=0)
    assert [record.config for record in state.records] == [record.config for record in before]
    for record in state.records:
        values = state.sampler.ask(record.trial_id)
        assert values == record.values
        assert values["train.batch_size"] == record.config["train.batch_size"]
        assert state.sampler.settings(record.trial_id).items() <= record.config.items()
    assert [record.trial_id for record in state.unfinished] == ["t0005", "t0006"]


def test_sampler_learns_from_the_old_trials_in_the_new_space(folder: SearchFolder) -> None:
    take_space(folder, folder.read_manifest(), WIDER)

    state = load_state(folder, WIDER, seed=0)
    asked = [state.sampler.ask(f"t{number:04d}") for number in range(7, 27)]

    study = state.sampler.study
    assert study.best_value == pytest.approx(0.34)
    distributions = {name: {str(trial.distributions[name]) for trial in study.trials} for name in study.best_params}
    assert {len(found) for found in distributions.values()} == {1}
    assert {"optimiser.lr", "train.batch_size"} < distributions.keys()
    assert len({values["train.batch_size"] for values in asked}) > 5
    assert any(not 1e-4 <= values["optimiser.lr"] <= 1e-2 for values in asked)


@pytest.mark.parametrize(("knows_old_trials", "decision"), [(True, "STOP"), (False, "CONTINUE")], ids=["yes", "no"])
def test_old_trials_stand_on_the_rungs_of_the_new_space(
    folder: SearchFolder, face_table: "FaceTable", knows_old_trials: bool, decision: str
) -> None:
    from search.driving import build_scheduler

    take_space(folder, folder.read_manifest(), WIDER)
    records = load_state(folder, WIDER, seed=0).records
    plan = SearchPlan(grace_epochs=1, min_rung_trials=1, reprieve_share=0.0)
    scheduler = build_scheduler(WIDER, face_table, plan, records if knows_old_trials else [])
    weak: Any = SimpleNamespace(config={"trial_id": "t0007", "order": {"settings": records[0].config}})

    assert scheduler is not None
    assert scheduler.on_trial_result(None, weak, {"best/macro_f1": 0.2, "samples_seen": 240}) == decision


def test_what_the_search_had_before_is_kept(folder: SearchFolder) -> None:
    before = files_of(folder)

    take_space(folder, folder.read_manifest(), WIDER)
    take_space(folder, folder.read_manifest(), space_with(("[1.0e-4, 1.0e-2]", "[1.0e-5, 1.0e-1]")))

    after = files_of(folder)
    assert after["before-launch-2/space.yaml"] == before["space.yaml"]
    assert after["before-launch-2/study.jsonl"] == before["study.jsonl"]


def test_space_that_lacks_a_trial_is_refused_with_the_difference_and_nothing_is_changed(folder: SearchFolder) -> None:
    before = files_of(folder)

    with pytest.raises(SpaceError) as caught:
        take_space(folder, folder.read_manifest(), NARROWER)

    assert str(caught.value).startswith(
        "space must hold all 6 trials of search 'cut' so far, got one without 5 of them, t0000 has "
        "loss.label_smoothing 0.1: new.yaml; loss.label_smoothing was between 0.0 and 0.6, is between 0.0 and 0.05; "
        "default of loss.label_smoothing was 0.1, is 0.0"
    )
    assert caught.value.exit_code == 2
    assert files_of(folder) == before


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        ("train.epochs: 2", "train.epochs: 3", "t0000 has train.epochs 2 where it must be 3"),
        ("train.epochs: 2", "train.epochs: 2, train.seed: 4", "t0000 has train.seed 0 where it must be 4"),
        ("{choice: [0.5, 1.0], default: 1.0}", "{choice: [0.5, 0.75], default: 0.5}", "has data.subsample_ratio 1.0"),
    ],
    ids=["fixed setting", "seed", "option"],
)
def test_refusal_names_the_setting_at_fault(folder: SearchFolder, old: str, new: str, why: str) -> None:
    with pytest.raises(SpaceError, match=why):
        take_space(folder, folder.read_manifest(), space_with((old, new)))


def test_trial_that_was_never_begun_does_not_stand_in_the_way(folder: SearchFolder) -> None:
    asked = json.loads((folder.path / STUDY_FILE).read_text().splitlines()[-1])
    assert (asked["event"], asked["trial_id"]) == ("ask", "t0006")
    seen = sorted(record.values["loss.label_smoothing"] for record in folder.read_records())
    highest = asked["values"]["loss.label_smoothing"] = seen[-1] + 1e-3
    lines = [*(folder.path / STUDY_FILE).read_text().splitlines()[:-1], json.dumps(asked)]
    write_text(folder.path / STUDY_FILE, "\n".join(lines) + "\n")
    space = space_with(("[0.0, 0.6]", f"[0.0, {highest - 5e-4}]"))

    take_space(folder, folder.read_manifest(), space)

    state = load_state(folder, space, seed=0)
    assert [record.trial_id for record in state.unfinished] == ["t0005"]
    assert state.next_number == N_BEGUN


def test_trials_that_repeat_a_config_with_another_seed_are_held_too(tmp_path: Path) -> None:
    folder, space = SearchFolder(tmp_path / "cut"), parse_space("fixed: {train.epochs: 2}")
    sampler = StudySampler(space)
    for number in range(3):
        sampler.ask(f"t{number:04d}")
        folder.write_record(new_record(sampler, f"t{number:04d}"))
    write_text(folder.path / SPACE_FILE, space.to_yaml())
    folder.write_manifest(manifest())
    wider = parse_space("fixed: {train.epochs: 2}\nparameters:\n  optimiser.lr: {log_uniform: [1.0e-5, 1.0e-1]}")

    take_space(folder, folder.read_manifest(), wider)

    state = load_state(folder, wider, seed=0)
    assert [record.config["train.seed"] for record in state.records] == [0, 1, 2]
    assert [state.sampler.seed_offset(record.trial_id) for record in state.records] == [0, 1, 2]


def test_space_edited_by_hand_is_refused_with_the_difference_unless_it_is_given(folder: SearchFolder) -> None:
    write_text(folder.path / SPACE_FILE, WIDER.to_yaml())

    with pytest.raises(SpaceError) as caught:
        unchanged_space(folder, folder.read_manifest())

    told = str(caught.value)
    assert told.startswith("space.yaml must be as the search knows it, got another: ")
    assert "; optimiser.lr was between 0.0001 and 0.01, log, is between 1e-05 and 0.1, log; " in told
    assert told.endswith(f"undo that, or give --space {folder.path / SPACE_FILE} to go on with it")
    take_space(folder, folder.read_manifest(), folder.read_space())
    assert unchanged_space(folder, folder.read_manifest()) == WIDER


def test_space_that_is_given_again_changes_no_trial(folder: SearchFolder) -> None:
    before = files_of(folder)

    _, said = take_space(folder, folder.read_manifest(), SPACE)

    assert said == "the space is as it was"
    assert files_of(folder) == before


def test_space_that_was_only_written_otherwise_is_as_it_was(folder: SearchFolder) -> None:
    write_text(folder.path / SPACE_FILE, "# a remark\n" + TEXT)

    assert unchanged_space(folder, folder.read_manifest()) == SPACE


def test_older_search_that_does_not_know_its_space_takes_it_as_it_is(folder: SearchFolder) -> None:
    document = json.loads((folder.path / MANIFEST_FILE).read_text())
    del document["space"]
    write_text(folder.path / MANIFEST_FILE, json.dumps(document))
    write_text(folder.path / SPACE_FILE, WIDER.to_yaml())

    assert unchanged_space(folder, folder.read_manifest()) == WIDER
    assert [record.trial_id for record in load_state(folder, WIDER, seed=0).records][-1] == "t0005"


@pytest.mark.parametrize("n_done", range(4), ids=["copies", "records", "journal", "space"])
def test_change_that_was_killed_in_its_middle_can_be_given_again(folder: SearchFolder, n_done: int) -> None:
    done = SearchFolder(folder.path.with_name("done"))
    for name, content in files_of(folder).items():
        write_text(done.path / name, content.decode())
    take_space(done, done.read_manifest(), WIDER)
    written = ("before-launch-2/*", "trials/*/trial.json", STUDY_FILE, SPACE_FILE)[: n_done + 1]
    for pattern in written:
        for path in done.path.glob(pattern):
            write_text(folder.path / path.relative_to(done.path), path.read_text())

    if SPACE_FILE not in written:  # as if nothing had been begun
        assert len(load_state(folder, unchanged_space(folder, folder.read_manifest()), seed=0).records) == N_BEGUN
    take_space(folder, folder.read_manifest(), WIDER)

    assert files_of(folder) == files_of(done)


def test_heads_that_were_handed_over_must_be_in_the_space_too(folder: SearchFolder) -> None:
    point = {"trial": "t0001", "macro_f1": 0.4, "values": {"optimiser.lr": 0.01, "loss.label_smoothing": 0.59}}
    write_handed(folder, HandedOver(search="cut-heads", points=(point,)))
    space = space_with(("[0.0, 0.6]", "[0.0, 0.589]"))

    with pytest.raises(SpaceError, match=r"loss.label_smoothing must be between 0 and 0.589, got 0.59"):
        take_space(folder, folder.read_manifest(), space)


def test_points_that_heads_add_to_a_space_are_no_change_of_it(folder: SearchFolder) -> None:
    known = folder.update_manifest(plan={"first": "heads:4"})
    write_text(folder.path / SPACE_FILE, TEXT + "points:\n- {optimiser.lr: 0.002}\n")

    assert unchanged_space(folder, known).points == ({"optimiser.lr": 0.002},)


def test_space_stays_until_its_heads_are_trained(folder: SearchFolder) -> None:
    known = folder.update_manifest(plan={"first": "heads:4"})
    folder.heads.write_manifest(manifest(name="cut-heads"))

    with pytest.raises(SpaceError, match="space must stay as it is until the heads of 'cut' are trained"):
        take_space(folder, known, WIDER)


def test_journal_of_the_new_space_is_plain_json_again(folder: SearchFolder) -> None:
    take_space(folder, folder.read_manifest(), WIDER)

    events = read_events(folder.path / STUDY_FILE)
    assert StudySampler.replay(WIDER, 0, events).running() == ["t0005", "t0006"]
