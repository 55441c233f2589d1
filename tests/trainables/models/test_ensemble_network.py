"""A whole ensemble as one network: fed, mixed and cooled as the members were, with encoders that run once for all."""

from dataclasses import asdict, replace
from typing import Any

import pytest
import torch

from trainables.checkpoint import NetworkSpec
from trainables.models.architectures.answers import HandRuleByName, answer, decide, looks_at_face
from trainables.models.architectures.design import Design
from trainables.models.architectures.ensemble import (
    EnsembleNetwork,
    FaceInputs,
    Feed,
    Vote,
    Voter,
    build_ensemble,
)
from trainables.models.architectures.network import ENCODER_FIELDS, ExpressionNetwork, encoder_design
from trainables.models.backbones import build_network
from trainables.models.inputs import to_inputs

CLASSES = ("anger", "fear", "happiness")
FEED = Feed(table_px=40, channels=1, image_px=40, mean=(0.5, 0.45, 0.4), std=(0.2, 0.25, 0.3))
SMALL = {"attention_heads": 2, "attention_width": 32}

DESIGNS = {
    "pooled": Design(),
    "cut": Design(stride=16),
    "dan": Design(encoder="dan", **SMALL),  # type: ignore[arg-type]
    "deviation": Design(encoder="deviation", deviation_eps_when="always"),
    "two-branch": Design(encoder="two_branch", appearance_backbone="test_resnet", **SMALL),  # type: ignore[arg-type]
    "hand": Design(hand_backbone="test_resnet"),
}


def build(design: Design = DESIGNS["pooled"], *, seed: int = 0, encoder: Any = None) -> ExpressionNetwork:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = build_network("test_efficientnet", n_classes=3, design=design)
        torch.nn.init.normal_(network.heads.linear.weight, std=2.0)
        if network.hand is not None:
            torch.nn.init.normal_(network.hand.linear.weight, std=3.0)
    if encoder is not None:
        network.encoder = encoder
    return network.eval()


def vote_of(network: ExpressionNetwork, *, weight: float = 1.0, mirror: bool = False, **changes: Any) -> Voter:
    """A voter of one vote, by probabilities, with the network's own classes."""
    looks = looks_at_face(mirror=mirror, shift_px=changes.pop("shift_px", 0))
    own = Voter(network, FEED, looks, None, CLASSES, (Vote("t0000", weight, "probs"),))
    return replace(own, **changes)


def draw_faces(n: int = 6, *, px: int = 40, channels: int = 1, seed: int = 0) -> torch.Tensor:
    """Blotches, uint8 [n, px, px, channels]."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(n, channels, 8, 8, generator=generator) * 255
    return torch.nn.functional.interpolate(coarse, (px, px), mode="bilinear").byte().permute(0, 2, 3, 1)


def say(ensemble: EnsembleNetwork, *faces: torch.Tensor) -> torch.Tensor:
    with torch.inference_mode():
        probs: torch.Tensor = ensemble.eval()(faces)
    return probs


def count_runs(module: torch.nn.Module) -> list[int]:
    """The sizes of the batches that a module is called with from now on."""
    sizes: list[int] = []
    module.register_forward_hook(lambda _, inputs, __: sizes.append(len(inputs[0])))
    return sizes


@pytest.mark.parametrize("channels", [1, 3], ids=["grey", "colour"])
@pytest.mark.parametrize("image_px", [40, 32, 56], ids=["as-it-is", "smaller", "larger"])
def test_faces_are_fed_as_in_training_to_the_last_bit(image_px: int, channels: int) -> None:
    feed = replace(FEED, image_px=image_px, channels=channels)
    spec = NetworkSpec("test_efficientnet", CLASSES, image_px, 40, channels, FEED.mean, FEED.std)
    faces = draw_faces(channels=channels)

    inputs = FaceInputs(feed)(faces)

    assert torch.equal(inputs, to_inputs(faces, spec))


@pytest.mark.parametrize("name", DESIGNS)
def test_networks_that_share_an_encoder_answer_as_each_alone(name: str) -> None:
    first = build(DESIGNS[name])
    second = build(DESIGNS[name], seed=1, encoder=first.encoder)
    rule = HandRuleByName("fear", 0.5, ("happiness",)) if name == "hand" else None
    voters = [vote_of(network, weight=0.5, mirror=True, shift_px=2, hand_rule=rule) for network in (first, second)]
    faces = draw_faces()

    probs = say(EnsembleNetwork(voters, classes=CLASSES), faces)

    inputs = FaceInputs(FEED)(faces)
    with torch.inference_mode():
        alone = [decide(answer(n, inputs, mirror=True, shift_px=2), rule, CLASSES) for n in (first, second)]
    expected = sum(0.5 * logits.double().softmax(dim=1) for logits in alone)
    torch.testing.assert_close(probs, expected, rtol=0, atol=1e-6)


def test_shared_encoder_runs_once_for_all_its_voters() -> None:
    first = build()
    heads = [build(seed=seed, encoder=first.encoder) for seed in (1, 2)]
    ensemble = EnsembleNetwork([vote_of(n, weight=1 / 3, mirror=True) for n in (first, *heads)], classes=CLASSES)
    sizes = count_runs(first.encoder)

    say(ensemble, draw_faces(80))

    assert sizes == [80, 80]


def test_looks_at_few_faces_go_through_as_one_batch() -> None:
    network = build()
    ensemble = EnsembleNetwork([vote_of(network, mirror=True, shift_px=2)], classes=CLASSES)
    sizes = count_runs(network.encoder)

    together = say(ensemble, draw_faces(3))
    ensemble.faces_at_once = 1
    one_by_one = say(ensemble, draw_faces(3))

    assert sizes == [30, *[3] * 10]
    torch.testing.assert_close(together, one_by_one, rtol=0, atol=1e-6)


def test_voters_of_one_encoder_take_only_the_looks_that_are_their_own() -> None:
    first = build()
    second = build(seed=1, encoder=first.encoder)
    voters = [vote_of(first, weight=0.5), vote_of(second, weight=0.5, mirror=True)]
    sizes = count_runs(first.encoder)

    together = say(EnsembleNetwork(voters, classes=CLASSES), draw_faces())

    assert sizes == [12]
    alone = [say(EnsembleNetwork([voter], classes=CLASSES), draw_faces()) for voter in voters]
    torch.testing.assert_close(together, alone[0] + alone[1], rtol=0, atol=1e-6)


def test_encoder_runs_once_for_each_way_of_feeding_it() -> None:
    first = build()
    second = build(seed=1, encoder=first.encoder)
    larger = replace(FEED, image_px=48)
    voters = [vote_of(first, weight=0.5), vote_of(second, weight=0.5, feed=larger)]
    sizes = count_runs(first.encoder)

    say(EnsembleNetwork(voters, classes=CLASSES), draw_faces())

    assert sizes == [6, 6]


def test_faces_come_in_each_size_that_a_network_wants() -> None:
    colour = vote_of(build(seed=1), weight=0.5, feed=replace(FEED, table_px=56, channels=3))
    ensemble = EnsembleNetwork([vote_of(build(), weight=0.5), colour], classes=CLASSES)

    probs = say(ensemble, draw_faces(), draw_faces(px=56, channels=3))

    assert ensemble.decoded_as == ((40, 1), (56, 3))
    torch.testing.assert_close(probs.sum(dim=1), torch.ones(6, dtype=torch.float64))


def test_columns_are_the_ensembles_classes_whatever_the_network_knows() -> None:
    network = build()
    voter = vote_of(network, classes=("happiness", "other", "anger"))

    probs = say(EnsembleNetwork([voter], classes=("anger", "happiness")), draw_faces())

    with torch.inference_mode():
        logits = answer(network, FaceInputs(FEED)(draw_faces()), mirror=False)["logits"].double()
    torch.testing.assert_close(probs, logits[:, [2, 0]].softmax(dim=1))


def test_networks_of_a_member_are_mixed_by_logits_where_their_votes_say_so() -> None:
    networks = [build(seed=seed) for seed in range(3)]
    votes = [Vote("t0000", 0.45, "logits"), Vote("t0000", 0.15, "logits"), Vote("t0001", 0.4, "probs")]
    voters = [vote_of(network, votes=(vote,)) for network, vote in zip(networks, votes, strict=True)]

    probs = say(EnsembleNetwork(voters, classes=CLASSES), draw_faces())

    with torch.inference_mode():
        inputs = FaceInputs(FEED)(draw_faces())
        logits = [answer(network, inputs, mirror=False)["logits"].double() for network in networks]
    mixed = (0.75 * logits[0] + 0.25 * logits[1]).softmax(dim=1)
    torch.testing.assert_close(probs, 0.6 * mixed + 0.4 * logits[2].softmax(dim=1))


def test_temperature_divides_the_logarithms_of_the_mixture() -> None:
    voter = vote_of(build())
    plain = say(EnsembleNetwork([voter], classes=CLASSES), draw_faces())

    cooled = say(EnsembleNetwork([voter], classes=CLASSES, temperature=2.0), draw_faces())

    torch.testing.assert_close(cooled, plain.sqrt() / plain.sqrt().sum(dim=1, keepdim=True))
    assert torch.equal(cooled.argmax(dim=1), plain.argmax(dim=1))


def test_temperature_of_one_leaves_the_mixture_to_the_last_bit() -> None:
    voter = vote_of(build())

    probs = say(EnsembleNetwork([voter], classes=CLASSES, temperature=1.0), draw_faces())

    with torch.inference_mode():
        logits = answer(voter.network, FaceInputs(FEED)(draw_faces()), mirror=False)["logits"].double()
    assert torch.equal(probs, logits.softmax(dim=1))


def entry_of(file: str, *, encoder_from: str | None = None) -> dict[str, Any]:
    spec = NetworkSpec("test_efficientnet", CLASSES, 40, 40, 1, FEED.mean, FEED.std)
    votes = [{"member": file, "role": "fine_tuned", "weight": 0.5, "space": "probs"}]
    return {"file": file, "encoder_from": encoder_from, "weight": 0.5, "votes": votes, **asdict(spec)}


def test_ensemble_is_built_with_one_encoder_where_a_file_names_anothers() -> None:
    networks = {"a": build(), "b": build(seed=1)}
    states = {file: network.state_dict() for file, network in networks.items()}
    states["b"] = {name: tensor for name, tensor in states["b"].items() if not name.startswith("encoder.")}
    entries = [entry_of("a"), entry_of("b", encoder_from="a")]
    members = {"classes": CLASSES, "temperature": 1.0, "networks": entries}

    ensemble = build_ensemble(members, states.__getitem__)

    built = [voter.network for crowd in ensemble.crowds for voter in crowd.voters]
    assert built[0].encoder is built[1].encoder
    assert not any(module.training for module in ensemble.modules())
    networks["b"].encoder = networks["a"].encoder
    voters = [vote_of(network, weight=0.5) for network in networks.values()]
    expected = say(EnsembleNetwork(voters, classes=CLASSES), draw_faces())
    torch.testing.assert_close(say(ensemble, draw_faces()), expected)


def test_ensemble_is_not_built_from_a_file_that_lacks_tensors() -> None:
    state = build().state_dict()
    del state["heads.linear.bias"]
    members = {"classes": CLASSES, "temperature": 1.0, "networks": [entry_of("a")]}

    with pytest.raises(RuntimeError, match=r"Missing key\(s\) in state_dict: \"heads.linear.bias\""):
        build_ensemble(members, {"a": state}.__getitem__)


@pytest.mark.parametrize("encoder", ENCODER_FIELDS)
def test_heads_and_hand_module_have_no_part_in_the_design_of_an_encoder(encoder: Any) -> None:
    design = Design(encoder=encoder)
    others = Design(encoder=encoder, head_width=32, landmarks=True, affect="separate", hand_backbone="test_resnet")

    assert encoder_design(others) == encoder_design(design)


@pytest.mark.parametrize(
    ("encoder", "change"),
    [
        ("pooled", {"stride": 16}),
        ("dan", {"attention_fusion": "sum"}),
        ("deviation", {"deviation_eps_when": "always"}),
        ("two_branch", {"appearance_backbone": "test_resnet"}),
        ("two_branch", {"logit_norm": False}),
    ],
    ids=["cut", "fusion", "eps", "appearance", "norm"],
)
def test_encoders_that_are_built_otherwise_have_other_designs(encoder: Any, change: dict[str, Any]) -> None:
    assert encoder_design(Design(encoder=encoder, **change)) != encoder_design(Design(encoder=encoder))
