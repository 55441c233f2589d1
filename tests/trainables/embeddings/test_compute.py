"""Embeddings from the cache are those that the network computes, within the rounding of float16."""

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from spaces.config import TrialConfig
from trainables.budget import OutOfTime
from trainables.data.table import FaceTable
from trainables.embeddings.cache import EmbeddingCache
from trainables.embeddings.compute import embed_faces, predict_embedded, valid_embeddings
from trainables.embeddings.encoder import FrozenEncoder
from trainables.embeddings.faces import EmbeddedFaces
from trainables.models.architectures.network import ExpressionNetwork
from trainables.models.build import build_trial_network
from trainables.models.inputs import predict_outputs, to_inputs

MakeConfig = Callable[..., TrialConfig]
ROWS = np.array([3, 7, 8, 40])

ENCODERS: dict[str, dict[str, Any]] = {
    "pooled": {},
    "dan": {"model.encoder": "dan", "attention.width": 32},
    "two_branch": {"model.encoder": "two_branch", "branches.appearance_backbone": "test_resnet", "attention.width": 32},
}


def build(config: TrialConfig, table: FaceTable) -> tuple[ExpressionNetwork, FrozenEncoder]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network, spec = build_trial_network(config, table.info)
        torch.nn.init.normal_(network.heads.linear.weight, std=1.0)
    return network, FrozenEncoder(network, spec)


def far_apart(left: Any, right: Any) -> bool:
    """Whether embeddings differ by more than anything rounds."""
    return bool(np.abs(left - right).mean() > 0.1 * np.abs(left).mean())


def embed(config: TrialConfig, table: FaceTable, cache: EmbeddingCache | None, *, rows: Any = ROWS) -> EmbeddedFaces:
    return embed_faces(build(config, table)[1], table, rows=rows, config=config, cache=cache)


@pytest.mark.parametrize("encoder", ENCODERS)
def test_embeddings_are_what_the_encoder_says_of_each_face(
    toy_table: FaceTable, make_config: MakeConfig, cache: EmbeddingCache, encoder: str
) -> None:
    config = make_config(ENCODERS[encoder])
    network, frozen = build(config, toy_table)

    kept = embed_faces(frozen, toy_table, rows=ROWS, config=config, cache=cache)
    computed = embed_faces(frozen, toy_table, rows=ROWS, config=config, cache=None)

    images = torch.from_numpy(toy_table.split("train").images[ROWS])
    with torch.no_grad():
        expected = network.eval().encoder(to_inputs(images, frozen.spec))["embeddings"].numpy()
    np.testing.assert_allclose(computed.views[0], expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())
    np.testing.assert_array_equal(kept.rows, np.arange(48))
    np.testing.assert_allclose(kept.views[0][ROWS], expected, rtol=1e-3, atol=1e-3 * np.abs(expected).max())
    assert (kept.views[0].dtype, computed.views[0].dtype) == (np.float16, np.float32)


@pytest.mark.parametrize("encoder", ENCODERS)
@pytest.mark.parametrize("mirror", [True, False], ids=["mirrored", "plain"])
def test_logits_from_the_cache_are_the_networks_own(
    toy_table: FaceTable, make_config: MakeConfig, cache: EmbeddingCache, encoder: str, mirror: bool
) -> None:
    affect = {"affect.heads": "joint"} if encoder == "pooled" else {}
    network, frozen = build(make_config({**ENCODERS[encoder], **affect, "model.mirror": mirror}), toy_table)
    expected = predict_outputs(network, toy_table.split("valid").images, frozen.spec)

    for _ in range(2):
        views = valid_embeddings(frozen, toy_table, cache=cache)
        found = predict_embedded(network, views, batch_size=10)

        assert len(views) == (2 if mirror else 1)
        assert found.keys() == expected.keys()
        for name, numbers in expected.items():
            np.testing.assert_allclose(found[name], numbers, rtol=2e-3, atol=2e-3 * np.abs(numbers).max())


def test_one_entry_serves_every_subsample(toy_table: FaceTable, make_config: MakeConfig, cache: EmbeddingCache) -> None:
    embed(make_config(), toy_table, cache, rows=ROWS)

    other = embed(make_config({"model.drop_rate": 0.4}), toy_table, cache, rows=np.array([1, 2]))

    assert len(cache.entries()) == 1
    assert len(other) == 48


def test_other_weights_or_another_table_find_nothing(
    toy_table: FaceTable, face_table: FaceTable, make_config: MakeConfig, cache: EmbeddingCache
) -> None:
    config = make_config({"model.image_px": 32})
    network, frozen = build(config, toy_table)
    first = embed_faces(frozen, toy_table, rows=ROWS, config=config, cache=cache)
    with torch.no_grad():
        next(network.encoder.parameters()).mul_(0.5)

    second = embed_faces(FrozenEncoder(network, frozen.spec), toy_table, rows=ROWS, config=config, cache=cache)
    embed(config, face_table, cache)

    assert len(cache.entries()) == 3
    assert not np.array_equal(first.views[0], second.views[0])


def test_views_after_the_first_are_altered_and_the_same_in_every_trial(
    toy_table: FaceTable, make_config: MakeConfig, cache: EmbeddingCache
) -> None:
    config = make_config({"train.head_views": 3, "augment.flip_p": 0.6})

    kept = embed(config, toy_table, cache)
    elsewhere = embed(make_config({"train.head_views": 2, "augment.flip_p": 0.6, "train.seed": 5}), toy_table, cache)
    computed = embed(config, toy_table, None)

    plain, first, second = kept.views
    assert len(cache.entries()) == 3
    assert far_apart(plain, first) and far_apart(first, second)
    np.testing.assert_array_equal(elsewhere.views[1], first)
    for mapped, own in zip(kept.views, computed.views, strict=True):
        np.testing.assert_allclose(mapped[ROWS], own, rtol=1e-3, atol=1e-3 * np.abs(own).max())


def test_views_by_other_augmentation_are_others(
    toy_table: FaceTable, make_config: MakeConfig, cache: EmbeddingCache
) -> None:
    strong, weak = (
        embed(make_config({"train.head_views": 2, "augment.max_light": light}), toy_table, cache)
        for light in (0.8, 0.1)
    )

    assert len(cache.entries()) == 3
    assert not np.array_equal(strong.views[1], weak.views[1])


def test_all_views_are_the_first_where_nothing_alters_a_face(
    toy_table: FaceTable, make_config: MakeConfig, cache: EmbeddingCache
) -> None:
    still = {f"augment.{name}_p": 0.0 for name in ("flip", "affine", "light", "erase")}

    faces = embed(make_config({**still, "train.head_views": 4}), toy_table, cache)

    assert len(faces.views) == 4 and len(cache.entries()) == 1
    assert all(view is faces.views[0] for view in faces.views)


def test_appearance_branch_sees_altered_faces_unmoved(
    toy_table: FaceTable, make_config: MakeConfig, cache: EmbeddingCache
) -> None:
    moved = {f"augment.{name}_p": 0.0 for name in ("light", "erase", "affine")} | {"augment.flip_p": 1.0}
    config = make_config({**ENCODERS["two_branch"], **moved, "train.head_views": 2})
    network, frozen = build(config, toy_table)

    faces = embed_faces(frozen, toy_table, rows=ROWS, config=config, cache=cache)

    inputs = to_inputs(torch.from_numpy(toy_table.split("train").images[ROWS]), frozen.spec)
    with torch.no_grad():
        expected = network.eval().encoder(inputs.flip(-1), inputs)["embeddings"].numpy()
    np.testing.assert_allclose(faces.views[1][ROWS], expected, rtol=2e-3, atol=2e-3 * np.abs(expected).max())


@pytest.mark.parametrize("scale", [1e9, 1e-7], ids=["larger", "smaller"])
def test_embeddings_beyond_float16_are_kept_in_float32(
    toy_table: FaceTable, make_config: MakeConfig, cache: EmbeddingCache, scale: float
) -> None:
    config = make_config()
    network, frozen = build(config, toy_table)
    expected = embed_faces(frozen, toy_table, rows=ROWS, config=config, cache=None).views[0] * scale
    network.encoder.register_forward_hook(
        lambda module, inputs, output: {name: numbers * scale for name, numbers in output.items()}
    )

    for _ in range(2):
        found = embed_faces(frozen, toy_table, rows=ROWS, config=config, cache=cache).views[0]

        assert found.dtype == np.float32
        np.testing.assert_allclose(found[ROWS], expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())


def test_only_the_chosen_faces_are_computed_where_the_cache_keeps_nothing(
    toy_table: FaceTable, make_config: MakeConfig, cache: EmbeddingCache
) -> None:
    small = EmbeddingCache(cache.folder, max_bytes=1000)

    faces = embed(make_config(), toy_table, small)

    np.testing.assert_array_equal(faces.rows, ROWS)
    assert cache.entries() == []


def test_cache_without_room_for_all_views_of_a_trial_keeps_none(
    toy_table: FaceTable, make_config: MakeConfig, cache: EmbeddingCache
) -> None:
    config = make_config({"train.head_views": 3})
    embed(config, toy_table, cache)
    n_bytes = sum(entry.n_bytes for entry in cache.empty())
    narrow = EmbeddingCache(cache.folder, max_bytes=n_bytes // 2)

    faces = embed(config, toy_table, narrow)

    assert (len(faces), len(faces.views), narrow.entries()) == (len(ROWS), 3, [])


@pytest.mark.parametrize("is_cached", [True, False], ids=["cached", "not cached"])
def test_embedding_faces_is_given_up_when_the_time_is_over(
    toy_table: FaceTable, make_config: MakeConfig, cache: EmbeddingCache, is_cached: bool
) -> None:
    config, kept = make_config(), cache if is_cached else None
    frozen = build(config, toy_table)[1]

    with pytest.raises(OutOfTime):
        embed_faces(frozen, toy_table, rows=ROWS, config=config, cache=kept, until_s=1.0)
    with pytest.raises(OutOfTime):
        valid_embeddings(frozen, toy_table, cache=kept, until_s=1.0)

    assert cache.entries() == []
    assert len(embed_faces(frozen, toy_table, rows=ROWS, config=config, cache=kept, until_s=time.time() + 60)) >= 4


def test_entry_that_is_there_serves_though_it_would_not_be_kept_now(
    toy_table: FaceTable, make_config: MakeConfig, cache: EmbeddingCache
) -> None:
    embed(make_config(), toy_table, cache)

    faces = embed(make_config(), toy_table, EmbeddingCache(cache.folder, max_bytes=1000))

    assert len(faces) == 48


def test_faces_show_their_views_in_turn_by_seed_and_epoch() -> None:
    views = tuple(np.full((1000, 2), number, np.float16) for number in range(3))
    faces = EmbeddedFaces(views=views, rows=np.arange(1000))

    shown = faces.draw_views(seed=1, epoch=1)
    taken = faces.take(np.array([5, 5, 999]), shown)

    np.testing.assert_array_equal(taken[:, 0], shown[[5, 5, 999]])
    np.testing.assert_array_equal(shown, faces.draw_views(seed=1, epoch=1))
    assert not np.array_equal(shown, faces.draw_views(seed=1, epoch=2))
    assert not np.array_equal(shown, faces.draw_views(seed=2, epoch=1))
    some = EmbeddedFaces(views=tuple(view[:3] for view in views), rows=np.array([4, 5, 700]))
    np.testing.assert_array_equal(some.draw_views(seed=1, epoch=1), shown[[4, 5, 700]])
    assert np.bincount(shown) == pytest.approx([333] * 3, abs=60)
