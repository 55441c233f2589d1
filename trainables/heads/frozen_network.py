"""Networks that stand still below a pack's heads, with what they say of a table; a worker remembers the last."""

import json
from collections import OrderedDict
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from spaces.config import TrialConfig
from trainables.checkpoint import NetworkSpec, state_on_cpu
from trainables.data.table import FaceTable
from trainables.embeddings.cache import EmbeddingCache
from trainables.embeddings.compute import embed_faces, to_floats, valid_embeddings
from trainables.embeddings.encoder import FrozenEncoder
from trainables.embeddings.faces import EmbeddedFaces, View
from trainables.heads.stacked import StackedHeads, Tensors, chunks_of, padded_inputs
from trainables.models.architectures.network import ExpressionNetwork
from trainables.models.build import build_trial_network, design_of
from trainables.randomness import seeded

MOST_KEPT = 2
"""Networks that a worker remembers from one pack to the next."""

MOST_STARTS = 16
"""Heads to begin with that are remembered with a network."""

FACES_AT_ONCE = 1024
"""Valid faces that heads are asked about at once."""

CPU = torch.device("cpu")


@dataclass(frozen=True, eq=False)
class FrozenNetwork:
    """What the heads of some trials stand on, in main memory.

    Attributes:
        table: of the faces.
        faces: all of the train split, embedded.
        valid: embeddings of all valid faces, and of their mirror images where the answer is the mean of both.
    """

    table: FaceTable
    faces: EmbeddedFaces
    valid: tuple[View, ...]
    _network: ExpressionNetwork
    _spec: NetworkSpec
    _starts: OrderedDict[tuple[int, int], Tensors] = field(default_factory=OrderedDict)

    def start(self, config: TrialConfig) -> Tensors:
        """The head with which a trial on this network begins, alone as in a pack.

        Its numbers are drawn after those of the backbone, so that another seed or width takes building a network.
        """
        key = config.train.seed, config.model.head_width
        if key not in self._starts:
            network, _ = _build(config, self.table)
            self.remember(config, network)
        return self._starts[key]

    def remember(self, config: TrialConfig, network: ExpressionNetwork) -> None:
        """Keep the head of a network that was built for a config."""
        self._starts[config.train.seed, config.model.head_width] = state_on_cpu(network.heads)
        while len(self._starts) > MOST_STARTS:
            self._starts.popitem(last=False)

    def whole(self, head: Tensors, config: TrialConfig) -> tuple[dict[str, torch.Tensor], NetworkSpec]:
        """The state of the whole network with a head, and how it is rebuilt."""
        state = {name: numbers for name, numbers in self._network.state_dict().items() if not name.startswith("heads.")}
        state |= {f"heads.{name}": numbers for name, numbers in head.items()}
        return state, replace(self._spec, design=design_of(config, image_px=self._spec.image_px))

    @torch.inference_mode()
    def answers(self, heads: Sequence[Tensors], *, device: torch.device) -> list[npt.NDArray[np.float32]]:
        """What the network says of the valid faces with each of the heads: their logits, [faces, classes] each."""
        stackable = chunks_of(heads, kinds=["any"] * len(heads))
        chunks = [(places, StackedHeads([heads[i] for i in places], device)) for places in stackable]
        found: list[list[torch.Tensor]] = [[] for _ in heads]
        for first in range(0, len(self.valid[0]), FACES_AT_ONCE):
            faces = slice(first, first + FACES_AT_ONCE)
            seen = [padded_inputs(to_floats(view[faces], device)) for view in self.valid]
            for places, stacked in chunks:
                said = torch.stack([stacked.forward(inputs) for inputs in seen]).mean(dim=0)  # [heads, classes, faces]
                for place, logits in zip(places, said.cpu(), strict=True):
                    found[place].append(logits.T)
        return [torch.cat(parts).numpy() for parts in found]


_kept: OrderedDict[str, FrozenNetwork] = OrderedDict()


def frozen_network(
    config: TrialConfig,
    table: FaceTable,
    *,
    device: torch.device,
    cache: EmbeddingCache | None,
    until_s: float | None = None,
) -> FrozenNetwork:
    """What the heads of all trials with this config's `frozen_key` stand on; from memory where it was asked for lately.

    Args:
        config: of one of them.
        table: the face table.
        device: where faces are embedded.
        cache: where embeddings are kept; None computes them for this worker alone.
        until_s: Unix time at which embedding faces is given up; None for no end.

    Raises:
        OutOfTime: the time was up before.
        ModelError: a backbone is unknown, or its weights or the size of its images do not fit.
    """
    key = f"{frozen_key(config)} {table.path.absolute()} {table.info.content_hash} {device.type}"
    if key not in _kept:
        network, spec = _build(config, table)
        network.to(device)
        encoder, rows = FrozenEncoder(network, spec), np.arange(table.info.rows["train"])
        found = FrozenNetwork(
            table,
            embed_faces(encoder, table, rows=rows, config=config, cache=cache, until_s=until_s),
            valid_embeddings(encoder, table, cache=cache, until_s=until_s),
            network.to(CPU),
            spec,
        )
        found.remember(config, network)
        _kept[key] = found
    _kept.move_to_end(key)
    while len(_kept) > MOST_KEPT:
        _kept.popitem(last=False)
    return _kept[key]


def frozen_key(config: TrialConfig) -> str:
    """All of a config that decides what stands below its head, and what that is shown."""
    model, train = config.model, config.train
    settings = model.model_dump(exclude={"drop_rate", "drop_path_rate", "head_width"})
    stamps = [_stamp(path) for path in (model.weights, model.start)]
    seed = train.seed if model.weights == "none" else None  # which then draws the backbone's
    views = [train.head_views, config.augment.model_dump()] if train.head_views > 1 else None
    return json.dumps([settings, config.data.normalise, stamps, seed, views], sort_keys=True)


def _build(config: TrialConfig, table: FaceTable) -> tuple[ExpressionNetwork, NetworkSpec]:
    """The network that the trainer begins with."""
    with seeded(config.train.seed, epoch=0, device=CPU):
        network, spec = build_trial_network(config, table.info)
    return network.to(memory_format=torch.channels_last), spec


def _stamp(path: str) -> tuple[int, int] | None:
    """Size and time of a file, so that another one of the same name is not taken for it."""
    with suppress(OSError):
        status = Path(path).expanduser().stat()
        return status.st_size, status.st_mtime_ns
    return None
