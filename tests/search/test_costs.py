"""What networks cost, alone and together."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from search.candidates import Candidate
from search.costs import NetworkCost, measure_costs, total_cost
from spaces.config import TrialConfig
from trainables.checkpoint import load_network, save_network
from trainables.models.architectures.design import Design
from trainables.models.backbones import build_network
from trainables.scores import Scores


def candidate(path: Path, **settings: object) -> Candidate:
    scores = Scores(("0",), (None,), np.zeros(1, np.int8), np.zeros((1, 3), np.float32), ("anger", "fear", "joy"))
    config = dict(TrialConfig().with_settings(settings).to_flat())
    return Candidate("t0000", path.parent, config, scores, is_complete=True, weights_file=path.name)


def network(encoder: str, *, ms: float = 2.0, once: float = 1.0, heads: float = 1.0) -> NetworkCost:
    return NetworkCost({"all": ms, "one": once}, 10.0 + heads, encoder, encoder_megabytes=10.0)


def test_costs_of_networks_add_up() -> None:
    total = total_cost([network("a"), network("b", ms=3.0, heads=2.0)], "all")

    assert (total.ms, total.megabytes) == (5.0, 23.0)


def test_shared_encoder_counts_once() -> None:
    total = total_cost([network("a", heads=1.0), network("a", ms=2.5, heads=2.0), network("b")], "all")

    assert (total.ms, total.megabytes) == (4.5, 24.0)


def test_one_look_costs_what_one_look_costs() -> None:
    networks = [network("a", ms=10.0, once=1.0), network("b", ms=20.0, once=2.0)]

    assert total_cost(networks, "one").ms == 3.0
    assert total_cost(networks, "one").megabytes == total_cost(networks, "all").megabytes


def test_each_network_is_measured_once(network_files: list[Path]) -> None:
    blended = {"blend.partner": str(network_files[1]), "blend.weight": 0.4}
    told: list[float] = []

    found = measure_costs([candidate(network_files[0], **blended), candidate(network_files[1])], progress=told.append)

    assert sorted(found) == network_files[:2]
    assert told == [0.5, 1.0]


def test_network_costs_the_time_of_its_looks_and_the_room_of_its_weights(network_files: list[Path]) -> None:
    (cost,) = measure_costs([candidate(network_files[1])]).values()  # ten looks at a face

    state = load_network(network_files[1])[0].state_dict()
    assert 0 < cost.ms["one"] < cost.ms["all"] / 2
    assert cost.megabytes == pytest.approx(4e-6 * sum(tensor.numel() for tensor in state.values()))
    encoder = [tensor.numel() for name, tensor in state.items() if name.startswith("encoder.")]
    assert cost.encoder_megabytes == pytest.approx(4e-6 * sum(encoder))


def test_encoders_are_told_apart_by_their_weights_and_by_how_they_are_fed(
    network_files: list[Path], tmp_path: Path
) -> None:
    model, spec = load_network(network_files[0])
    state = model.state_dict()
    other_head = {name: tensor + (name == "heads.linear.bias") for name, tensor in state.items()}
    other_encoder = {
        name: tensor + (name.startswith("encoder.") and tensor.is_floating_point()) for name, tensor in state.items()
    }
    deeper = replace(spec, design=Design(head_width=8))
    other_heads = build_network(spec.backbone, n_classes=3, design=deeper.design).state_dict()
    own_encoder = {name: tensor for name, tensor in state.items() if name.startswith("encoder.")}
    twins = {
        "same": (state, spec),
        "deeper head": ({**other_heads, **own_encoder}, deeper),
        "other head": (other_head, spec),
        "other encoder": (other_encoder, spec),
        "seen larger": (state, replace(spec, image_px=48)),
        "mirrored": (state, replace(spec, mirror=True)),
    }
    for name, (weights, fed) in twins.items():
        save_network(tmp_path / name, weights, fed)

    found = measure_costs([candidate(tmp_path / name) for name in twins])

    encoders = {name: found[tmp_path / name].encoder for name in twins}
    assert encoders["same"] == encoders["other head"] == encoders["deeper head"] == encoders["mirrored"]
    assert len({encoders["same"], encoders["other encoder"], encoders["seen larger"]}) == 3
