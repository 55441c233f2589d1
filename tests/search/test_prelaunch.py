"""What is found before the first worker starts."""

from pathlib import Path

import pytest

from search.folder import SearchManifest
from search.prelaunch import check_launch, iter_representatives, open_same_table
from spaces.errors import ConfigError, ModelError, SearchError, UsageError
from spaces.loading import parse_space
from spaces.space import SearchSpace
from trainables.data.table import FaceTable

START = "name: x\ndescription: x\nfixed: {model.weights: none, model.backbone: test_efficientnet}\n"


def space_of(parameters: str) -> SearchSpace:
    return parse_space(START + parameters)


def test_launch_is_fine_when_all_fits(face_table: FaceTable) -> None:
    check_launch(space_of("parameters: {optimiser.lr: {log_uniform: [1.0e-4, 1.0e-2]}}"), face_table)


def test_launch_is_refused_when_a_backbone_of_a_choice_is_unknown(face_table: FaceTable) -> None:
    space = parse_space(
        "name: x\ndescription: x\nfixed: {model.weights: none}\n"
        "parameters: {model.backbone: {choice: [test_efficientnet, resnet81], default: test_efficientnet}}"
    )

    with pytest.raises(ModelError, match="resnet81") as caught:
        check_launch(space, face_table)
    assert caught.value.exit_code == 2


def test_launch_is_refused_when_a_backbone_does_not_take_images_of_the_size(face_table: FaceTable) -> None:
    space = parse_space("name: x\nfixed: {model.weights: none, model.backbone: test_vit}\n")

    with pytest.raises(ModelError, match=r"model\.image_px must be 160 for backbone 'test_vit', got 40"):
        check_launch(space, face_table)
    check_launch(space.fix({"model.image_px": 160}), face_table)


def test_launch_is_refused_when_the_bound_of_the_embeddings_cache_is_no_size(
    face_table: FaceTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AFFECTUNE_CACHE_GB", "twenty")

    with pytest.raises(UsageError, match="AFFECTUNE_CACHE_GB must be a number of gigabytes from 0 up, got 'twenty'"):
        check_launch(space_of(""), face_table)


def test_launch_is_refused_when_a_weights_file_is_missing(face_table: FaceTable, tmp_path: Path) -> None:
    space = space_of("").fix({"model.weights": str(tmp_path / "gone.safetensors")})

    with pytest.raises(ModelError, match=r"gone\.safetensors"):
        check_launch(space, face_table)


def test_launch_is_refused_when_a_partner_is_no_model(face_table: FaceTable, tmp_path: Path) -> None:
    partner = tmp_path / "partner.safetensors"
    partner.write_bytes(b"nothing")
    space = space_of("").fix({"blend.partner": str(partner)})

    with pytest.raises(ModelError, match=r"partner\.safetensors"):
        check_launch(space, face_table)


def test_launch_is_refused_when_class_weights_are_too_few(face_table: FaceTable) -> None:
    space = space_of("").fix({"loss.class_weights": [1.0, 2.0]})

    with pytest.raises(ConfigError, match="class_weights"):
        check_launch(space, face_table)


def test_representatives_hold_every_option_of_every_choice() -> None:
    space = space_of(
        "parameters:\n"
        "  train.batch_size: {choice: [16, 32, 64], default: 32}\n"
        "  optimiser.name: {choice: [adam, adamw], default: adamw}\n"
        "points: [{train.batch_size: 64, optimiser.name: adam}]"
    )

    configs = list(iter_representatives(space))

    assert {config.train.batch_size for config in configs} == {16, 32, 64}
    assert {config.optimiser.name for config in configs} == {"adam", "adamw"}
    assert configs[0].train.batch_size == 32


def manifest_of(data: str, content_hash: str) -> SearchManifest:
    what = {"classes": ("a", "b"), "seed": 0, "n_trials": 1, "time_budget_s": None, "tracking_uri": "sqlite:///x.db"}
    return SearchManifest(name="x", data=data, content_hash=content_hash, **what)  # type: ignore[arg-type]


def test_table_of_a_search_is_opened_by_its_uri(
    face_table: FaceTable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AFFECTUNE_TABLES", str(tmp_path))
    told = face_table.info.content_hash

    table = open_same_table(manifest_of(f"file://{face_table.path}", told))

    assert (table.path, table.origin) == (tmp_path / told, f"file://{face_table.path}")


def test_table_of_a_search_is_opened_without_its_store_when_there_is_a_copy(
    face_table: FaceTable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AFFECTUNE_TABLES", str(tmp_path))
    told = face_table.info.content_hash
    open_same_table(manifest_of(f"file://{face_table.path}", told))

    assert open_same_table(manifest_of("s3://faces/gone", told)).path == tmp_path / told


def test_table_of_a_search_is_refused_when_another_stands_in_its_place(face_table: FaceTable) -> None:
    sentence = (
        rf"must be the one that was searched on \(abc\), got {face_table.info.content_hash[:12]}: {face_table.path}"
    )

    with pytest.raises(SearchError, match=sentence):
        open_same_table(manifest_of(str(face_table.path), "abc"))
