"""Heads that are trained together learn what each would learn alone."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from spaces.config import TrialConfig
from trainables.budget import OutOfTime
from trainables.data.sampling import stratified_subsample, training_items
from trainables.embeddings.faces import EmbeddedFaces
from trainables.heads.blocks import Blocks, head_order
from trainables.heads.engine import HeadTask, TrainedHead, group_key, train_together
from trainables.heads.stacked import CHUNK_ROWS, Tensors
from trainables.losses.class_weights import class_weights
from trainables.losses.expression import ExpressionLoss
from trainables.optimisers import build_head_optimiser, lr_factor, set_learning_rate

WIDTH, CLASSES, CPU = 12, 3, torch.device("cpu")
GENERATOR = np.random.default_rng(5)
EXPRESSION = GENERATOR.integers(CLASSES, size=90).astype(np.int8)
FACES = EmbeddedFaces(
    (
        (GENERATOR.standard_normal((90, WIDTH)) + 2 * np.eye(WIDTH)[EXPRESSION]).astype(np.float16),
        GENERATOR.standard_normal((90, WIDTH)).astype(np.float16),
    ),
    np.arange(90),
)
PLAIN = EmbeddedFaces(FACES.views[:1], FACES.rows)


def start(*, hidden: int = 0) -> Tensors:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        if not hidden:
            return {"linear.weight": 0.1 * torch.randn(CLASSES, WIDTH), "linear.bias": torch.zeros(CLASSES)}
        return {
            "hidden.0.weight": 0.3 * torch.randn(hidden, WIDTH),
            "hidden.0.bias": 0.1 * torch.randn(hidden),
            "linear.weight": 0.3 * torch.randn(CLASSES, hidden),
            "linear.bias": torch.zeros(CLASSES),
        }


def task(**settings: Any) -> HeadTask:
    flat = {"train.epochs": 0, "train.head_epochs": 3, "train.batch_size": 16, "model.drop_rate": 0.0}
    config = TrialConfig.from_flat(flat | {name.replace("__", "."): value for name, value in settings.items()})
    rows = stratified_subsample(EXPRESSION, ratio=config.data.subsample_ratio, seed=config.train.seed)
    items = training_items(EXPRESSION, rows, sampler=config.data.sampler)
    counts = np.bincount(EXPRESSION[rows], minlength=CLASSES)
    return HeadTask(config, items, class_weights(counts, config.loss), start(hidden=config.model.head_width))


def train(*tasks: HeadTask, faces: EmbeddedFaces = PLAIN) -> list[TrainedHead]:
    return train_together(faces, EXPRESSION, tasks, device=CPU)


def assert_same(one: TrainedHead, other: TrainedHead, *, tolerance: float = 1e-5) -> None:
    for name, tensor in one.tensors.items():
        torch.testing.assert_close(tensor, other.tensors[name], rtol=tolerance, atol=tolerance)


VARIANTS = [
    task(loss__label_smoothing=0.3),
    task(optimiser__head_only_lr=0.05, lr_schedule__name="linear"),
    task(loss__name="focal", loss__label_smoothing=0.0),
    task(data__subsample_ratio=0.5),
    task(data__sampler="weighted"),
    task(data__sampler="upsample"),
    task(optimiser__grad_clip=0.01),
    task(optimiser__grad_clip=0.0, optimiser__name="adam"),
    task(optimiser__name="sgd"),
    task(train__seed=3),
    task(model__head_width=5),
    task(model__head_width=5, optimiser__grad_clip=0.01, loss__label_smoothing=0.2),
    task(model__drop_rate=0.3),
]


def test_head_learns_the_same_alone_and_in_a_pack() -> None:
    together = train(*VARIANTS)

    for head, own in zip(together, VARIANTS, strict=True):
        assert_same(head, train(own)[0])


@pytest.mark.parametrize("own", VARIANTS[:-1], ids=range(len(VARIANTS) - 1))
def test_head_learns_what_torch_would_teach_it(own: HeadTask) -> None:
    config = own.config
    layers: list[nn.Module] = []
    if config.model.head_width:
        layers = [nn.Linear(WIDTH, config.model.head_width), nn.ReLU()]
    network = nn.Sequential(*layers, nn.Linear(config.model.head_width or WIDTH, CLASSES))
    with torch.no_grad():
        for parameter, tensor in zip(network.parameters(), own.start.values(), strict=True):
            parameter.copy_(tensor)
    _train_by_torch(network, own)

    (head,) = train(own)

    for parameter, tensor in zip(network.parameters(), head.tensors.values(), strict=True):
        torch.testing.assert_close(parameter.detach(), tensor, rtol=1e-4, atol=1e-5)


def _train_by_torch(network: nn.Module, own: HeadTask) -> None:
    """The same steps, one head at a time, with autograd and torch's optimisers."""
    config, epochs = own.config, own.config.train.head_epochs
    loss = ExpressionLoss(torch.from_numpy(own.weights), config.loss)
    optimiser = build_head_optimiser(network.parameters(), config.optimiser)
    n_batches = round(len(own.items) / config.train.batch_size)
    for epoch in range(1, epochs + 1):
        order = head_order(own.items, EXPRESSION, config, rows=PLAIN.rows, epoch=epoch)
        for number, chosen in enumerate(np.array_split(order, n_batches)):
            progress = ((epoch - 1) * n_batches + number) / (n_batches * epochs)
            set_learning_rate(optimiser, lr_factor(progress, config.lr_schedule, epochs=epochs))
            optimiser.zero_grad()
            inputs = torch.from_numpy(PLAIN.views[0][chosen]).float()
            loss(network(inputs), torch.from_numpy(EXPRESSION[chosen]).long()).backward()
            if config.optimiser.grad_clip:
                nn.utils.clip_grad_norm_(network.parameters(), config.optimiser.grad_clip)
            optimiser.step()


def test_head_that_diverges_leaves_the_others_alone() -> None:
    broken = task(loss__label_smoothing=0.1)
    broken.start["linear.weight"][0, 0] = float("nan")
    sound = task(loss__label_smoothing=0.2)

    first, second = train(broken, sound)

    assert first.diverged and not second.diverged
    assert_same(second, train(sound)[0])


def test_faces_show_their_views_in_turn() -> None:
    plain, both = train(task())[0], train(task(train__head_views=2), faces=FACES)[0]

    assert not torch.equal(plain.tensors["linear.weight"], both.tensors["linear.weight"])
    assert_same(both, train(task(train__head_views=2), faces=FACES)[0], tolerance=0.0)


def test_faces_may_be_some_of_their_split() -> None:
    own = task(data__subsample_ratio=0.5)
    rows = np.unique(own.items.rows)
    some = EmbeddedFaces((PLAIN.views[0][rows],), rows)

    assert_same(train(own, faces=some)[0], train(own)[0])


def test_one_seed_drops_out_the_same_numbers_and_another_does_not() -> None:
    task_of = {seed: task(model__drop_rate=0.5, train__seed=seed, train__head_epochs=1) for seed in (0, 1)}

    assert_same(train(task_of[0])[0], train(task_of[0])[0], tolerance=0.0)
    assert not torch.equal(*(train(own)[0].tensors["linear.weight"] for own in task_of.values()))


def test_dropout_takes_its_share_and_leaves_the_mean_and_the_bias() -> None:
    ones = EmbeddedFaces((np.ones((1024, WIDTH), np.float16),), np.arange(1024))
    labels = np.arange(1024).astype(np.int8) % 3
    items = training_items(labels, np.arange(1024), sampler="shuffle")
    config = task(model__drop_rate=0.25, train__batch_size=1024).config

    inputs = [block[0].inputs.clone() for block in Blocks(ones, items, labels, config=config, n_classes=3, device=CPU)]

    for seen in inputs:
        assert seen[:, :WIDTH].unique().tolist() == pytest.approx([0.0, 1 / 0.75])
        assert float((seen[:, :WIDTH] == 0).float().mean()) == pytest.approx(0.25, abs=0.02)
        assert seen[:, WIDTH].unique().tolist() == [1.0]
    assert not torch.equal(inputs[0], inputs[1])


def test_more_heads_than_fit_into_one_matrix_are_all_trained() -> None:
    rates = np.geomspace(1e-3, 1e-1, CHUNK_ROWS // CLASSES + 2)
    tasks = [task(optimiser__head_only_lr=float(rate), train__head_epochs=1) for rate in rates]

    heads = train(*tasks)

    for place in (0, len(tasks) - 2, len(tasks) - 1):
        assert_same(heads[place], train(tasks[place])[0])


def test_batches_of_several_blocks_count_on_as_one_epoch() -> None:
    """Of 1,500 faces, a block holds 1,024."""
    expression = np.random.default_rng(1).integers(CLASSES, size=1500).astype(np.int8)
    faces = EmbeddedFaces(
        (np.random.default_rng(2).standard_normal((1500, WIDTH)).astype(np.float16),), np.arange(1500)
    )
    items = training_items(expression, np.arange(1500), sampler="shuffle")
    own = replace(task(train__head_epochs=2, train__batch_size=100), items=items)
    seen = [
        batch
        for block in Blocks(faces, items, expression, config=own.config, n_classes=3, device=CPU)
        for batch in ((b.number, len(b.labels), int(b.labels.sum())) for b in block)
    ]

    assert [number for number, _, _ in seen] == list(range(30))
    assert {size for _, size, _ in seen} == {100}
    assert sum(total for _, _, total in seen) == 2 * int(expression.sum())


def test_unlabelled_faces_do_not_count() -> None:
    partly = EXPRESSION.copy()
    partly[::3] = -1
    own = task(train__head_epochs=1, train__batch_size=90)

    (head,) = train_together(PLAIN, partly, [own], device=CPU)

    assert head.loss == pytest.approx(np.log(3), abs=0.4)
    assert not head.diverged


def test_deadline_gives_all_heads_up_and_threads_are_as_before() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)

    with pytest.raises(OutOfTime):
        train_together(PLAIN, EXPRESSION, [task()], device=CPU, until_s=1.0)

    assert torch.get_num_threads() == 2
    torch.set_num_threads(before)


def test_only_what_decides_the_batches_parts_trials() -> None:
    together = [task(), task(loss__gamma=1.0), task(model__head_width=3), task(optimiser__name="sgd")]
    apart = [
        task(train__seed=1),
        task(data__subsample_ratio=0.5),
        task(model__drop_rate=0.1),
        task(train__batch_size=9),
    ]

    assert len({group_key(one.config) for one in together}) == 1
    assert len({group_key(one.config) for one in [task(), *apart]}) == 5


def test_loss_falls_and_faces_are_counted() -> None:
    short, long = task(train__head_epochs=1), task(train__head_epochs=8)

    first, last = train(short, long)

    assert last.loss < first.loss
    assert (first.n_seen, last.n_seen) == (90, 720)


@pytest.mark.gpu
@pytest.mark.parametrize("own", VARIANTS, ids=range(len(VARIANTS)))
def test_head_learns_the_same_on_a_gpu(own: HeadTask) -> None:
    (head,) = train_together(PLAIN, EXPRESSION, [own], device=torch.device("cuda"))

    assert_same(head, train(own)[0], tolerance=1e-3)
