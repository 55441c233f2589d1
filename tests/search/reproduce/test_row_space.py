"""From rows and wishes to the space of a search: what is fixed, what a row bundles, which trials there are."""

from pathlib import Path

import pytest

from search.reproduce.space import RowSpace, Wishes, build_row_space, left_alone, parse_row_fixes
from search.reproduce.tables import find_table
from spaces.errors import BackboneError, ConfigError, ModelError, UsageError
from spaces.loading import parse_space
from trainables.data.table import FaceTable

SMALL = {"model.backbone": "test_resnet", "model.image_px": 40}


def build(words: str, faces: FaceTable, wishes: Wishes) -> RowSpace:
    return build_row_space(find_table(words)[1], faces, wishes, name="rows", description="of a test")


def test_rows_are_the_points_of_a_space_in_their_order(face_table: FaceTable) -> None:
    found = build("001:1", face_table, Wishes(fixes=SMALL))

    points = found.space.initial_points()
    smoothing = [found.space.to_config(point).loss.label_smoothing for point in points]
    assert [point["row"] for point in points] == ["none", "s01", "s02", "s04"]
    assert smoothing == [0, 0.1, 0.2, 0.4]
    assert found.n_trials == 4
    assert {found.space.to_config(point).model.backbone for point in points} == {"test_resnet"}


def test_space_of_rows_is_read_back_from_its_yaml_when_a_search_goes_on(face_table: FaceTable) -> None:
    space = build("001:2", face_table, Wishes(fixes=SMALL, n_seeds=2)).space

    assert parse_space(space.to_yaml()).content_hash() == space.content_hash()


def test_rows_are_repeated_with_seeds_from_the_first(face_table: FaceTable) -> None:
    found = build("001:1", face_table, Wishes(fixes=SMALL, n_seeds=3, seed=7))

    seeds = [found.space.to_config(found.values["s02", i]).train.seed for i in range(3)]
    assert seeds == [7, 8, 9]
    assert found.n_trials == 12


def test_members_of_a_bag_have_seeds_of_their_own(face_table: FaceTable) -> None:
    members = [f"weak_scratch-{number}" for number in (1, 2, 3)]
    found = build("004:1", face_table, Wishes(fixes={"model.image_px": 40}, n_seeds=2))

    seeds = [found.values[key, i]["train.seed"] for key in members for i in (0, 1)]
    assert len(set(seeds)) == 6
    assert found.values["weak_scratch-1", 0]["row"] == found.values["weak_scratch-2", 0]["row"]


def test_rows_with_equal_settings_share_a_trial(face_table: FaceTable) -> None:
    fixes = {"baseline": {}, "rand_augment": {"augment.rand_p": 0}}

    found = build("001:2", face_table, Wishes(fixes=SMALL, row_fixes=fixes))

    assert found.values["baseline", 0] == found.values["rand_augment", 0]
    assert found.n_trials == 3


def test_epochs_are_set_where_all_weights_train_and_cut_where_the_head_does(face_table: FaceTable) -> None:
    found = build("002:8", face_table, Wishes(fixes=SMALL, epochs=2))

    head, every = (found.space.to_config(found.values[key, 0]).train for key in ("b0_head", "b0_all"))
    assert (head.head_epochs, head.epochs) == (2, 0)
    assert (every.head_epochs, every.epochs) == (2, 2)


def test_row_waits_for_a_start_and_goes_on_from_it(face_table: FaceTable, network_files: list[Path]) -> None:
    fixes = {"model.backbone": "test_resnet", "model.image_px": 56, "train.frozen_share": 0}

    without = build("003:1", face_table, Wishes(fixes=fixes))
    started = build("003:1", face_table, Wishes(fixes=fixes, start=network_files[2]))

    assert without.not_run == {"pretrained": "not run: needs a pre-trained model, --start FILE"}
    config = started.space.to_config(started.values["pretrained", 0])
    assert (config.model.start, config.model.weights) == (str(network_files[2]), "none")
    assert started.space.to_config(started.values["resnet", 0]).model.start == "none"


def test_row_that_the_table_or_the_files_do_not_allow_is_left_out_with_the_reason(
    face_table: FaceTable, tmp_path: Path
) -> None:
    fixes = {"s01": {"model.weights": str(tmp_path / "none.safetensors")}}

    found = build("001:1", face_table, Wishes(fixes=SMALL, row_fixes=fixes))

    assert list(found.not_run) == ["s01"]
    assert found.not_run["s01"].startswith("not run: weights must be none, hub or a safetensors file that exists")
    assert found.n_trials == 3


def test_first_reason_is_raised_when_no_row_can_be_run(face_table: FaceTable) -> None:
    with pytest.raises(ModelError, match="image_px must be 160 for backbone 'test_vit', got 40"):
        build("001:1", face_table, Wishes(fixes={**SMALL, "model.backbone": "test_vit"}))


def test_unknown_backbone_is_no_reason_to_leave_rows_out(face_table: FaceTable) -> None:
    with pytest.raises(BackboneError, match="got 'resnet51'"):
        build("001:1", face_table, Wishes(fixes={**SMALL, "model.backbone": "resnet51"}))


def test_contradicting_fix_names_the_row(face_table: FaceTable) -> None:
    with pytest.raises(ConfigError, match=r"label_smoothing must be 0 where loss\.name is 'focal'.*row 's01'"):
        build("001:1", face_table, Wishes(fixes={**SMALL, "loss.name": "focal"}))


def test_fix_of_what_every_row_sets_is_refused_with_the_way_out(face_table: FaceTable) -> None:
    with pytest.raises(UsageError, match=r"got loss.label_smoothing, which every row .*; none:loss.label_smoothing="):
        build("001:1", face_table, Wishes(fixes={"loss.label_smoothing": 0.3}))


def test_fix_of_the_seed_is_refused(face_table: FaceTable) -> None:
    with pytest.raises(UsageError, match=r"must leave train.seed to --seed and --seeds, got train.seed=3"):
        build("001:1", face_table, Wishes(fixes={"train.seed": 3}))


def test_start_that_no_row_takes_is_refused(face_table: FaceTable) -> None:
    with pytest.raises(UsageError, match=r"--start must be of use to a row of table 1, got a\.safetensors"):
        build("001:1", face_table, Wishes(start=Path("a.safetensors")))


def test_rows_that_a_fix_does_not_reach_are_named() -> None:
    table = find_table("002:7")[1]

    assert left_alone(table, Wishes(fixes=SMALL), labels=[]) == {name: ["b2_head", "b2_all"] for name in SMALL}


def test_start_of_another_kind_is_refused_where_the_paper_starts_from_the_joint_model(
    face_table: FaceTable, network_files: list[Path]
) -> None:
    fixes = {"model.backbone": "test_resnet", "model.image_px": 56}

    with pytest.raises(ModelError, match=r"--start must have joint heads for valence and arousal, got a model without"):
        build("002:8", face_table, Wishes(fixes=fixes, start=network_files[2]))


def test_start_is_found_from_whatever_folder_a_worker_stands_in(
    face_table: FaceTable, network_files: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    fixes = {"model.backbone": "test_resnet", "model.image_px": 56, "train.frozen_share": 0}
    monkeypatch.chdir(network_files[2].parent)

    found = build("003:1", face_table, Wishes(fixes=fixes, start=Path(network_files[2].name)))

    config = found.space.to_config(found.values["pretrained", 0])
    assert config.model.start == str(network_files[2])


def test_rows_that_a_start_sets_are_named_too() -> None:
    table = find_table("003:1")[1]
    fixes = {"model.weights": "hub"}

    assert left_alone(table, Wishes(fixes=fixes), labels=[]) == {}
    assert left_alone(table, Wishes(fixes=fixes, start=Path("a")), labels=[]) == {"model.weights": ["pretrained"]}


def test_fix_of_what_every_row_sets_where_a_label_is_known_is_refused(face_table: FaceTable) -> None:
    with pytest.raises(UsageError, match=r"got hand.backbone, which every row .*; resnet:hand.backbone=VALUE"):
        build("003:1", face_table, Wishes(fixes={"hand.backbone": "resnet18"}))


def test_start_that_fits_no_row_is_refused_before_the_other_rows_are_trained(
    face_table: FaceTable, tmp_path: Path
) -> None:
    fixes = {"model.backbone": "test_resnet", "model.image_px": 56, "train.frozen_share": 0}

    with pytest.raises(ModelError, match=r"saved model could not be read, there is no such file: .*gone\.safetensors"):
        build("003:1", face_table, Wishes(fixes=fixes, start=tmp_path / "gone.safetensors"))


def test_fixes_are_read_for_all_rows_and_for_one() -> None:
    table = find_table("001:1")[1]

    found = parse_row_fixes(["train.epochs=3", "s01:optimiser.lr=1e-3", "s01:train.batch_size=8"], table)

    assert found == ({"train.epochs": 3}, {"s01": {"optimiser.lr": 1e-3, "train.batch_size": 8}})


@pytest.mark.parametrize(
    ("word", "sentence"),
    [
        ("s1:train.epochs=3", "must name a trained row of the table, got 's1'; did you mean 's01'"),
        ("s01:train.epoch=3", "setting 'train.epoch' is unknown: --fix; did you mean 'train.epochs'"),
        ("train.epochs", "--fix must be KEY=VALUE, got 'train.epochs'"),
    ],
    ids=["row", "setting", "no_value"],
)
def test_fix_is_refused_when_it_names_nothing(word: str, sentence: str) -> None:
    with pytest.raises((UsageError, ConfigError)) as caught:
        parse_row_fixes([word], find_table("001:1")[1])

    assert sentence in str(caught.value)
