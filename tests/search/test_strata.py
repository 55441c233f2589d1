import numpy as np
import pytest

from search.strata import Stratum, epoch_faces, named_ratios, stratum_of
from spaces.config import TrialConfig
from spaces.loading import parse_space
from trainables.data.sampling import stratified_subsample

HEAD = "name: one\ndescription: one\n"


@pytest.mark.parametrize(
    ("ratio", "n_halvings"), [(1.0, 0), (0.51, 0), (0.5, 1), (0.3, 1), (0.25, 2), (0.2, 2), (0.1, 3), (0.001, 9)]
)
def test_stratum_counts_how_often_the_faces_are_halved(ratio: float, n_halvings: int) -> None:
    config = TrialConfig().with_settings({"model.backbone": "resnet18", "data.subsample_ratio": ratio})

    assert stratum_of(config.to_flat()) == Stratum("pooled resnet18", n_halvings)


def test_stratum_differs_by_encoder_and_backbone() -> None:
    settings = {"data.subsample_ratio": 1.0}
    networks = [("pooled", "resnet18"), ("dan", "resnet18"), ("pooled", "resnet50")]

    strata = {stratum_of({**settings, "model.encoder": e, "model.backbone": b}) for e, b in networks}

    assert len(strata) == 3


def test_stratum_is_known_of_a_config_without_encoders() -> None:
    settings = {"model.backbone": "resnet18", "data.subsample_ratio": 1}

    assert stratum_of(settings) == Stratum("pooled resnet18", 0)


@pytest.mark.parametrize(("ratio", "largest"), [(0.1, 0.12), (0.12, 0.12), (0.2, 0.2), (0.5, 0.5), (0.7, 1.0)])
def test_epoch_faces_are_those_of_the_largest_subsample_that_the_space_names(ratio: float, largest: float) -> None:
    labels = np.repeat(np.arange(4), [101, 13, 2, 57]).astype(np.int8)
    stratum = stratum_of({"model.backbone": "resnet18", "data.subsample_ratio": ratio})

    faces = epoch_faces(stratum, class_counts=[101, 13, 2, 57, 0], ratios={0.1, 0.12, 0.2, 0.5, 0.7, 1.0})

    assert faces == len(stratified_subsample(labels, ratio=largest, seed=0))


def test_epoch_faces_go_up_to_the_edge_when_no_ratio_is_named() -> None:
    assert epoch_faces(Stratum("pooled resnet18", 2), class_counts=[100, 300], ratios=()) == 100


def test_named_ratios_are_the_options_and_the_default() -> None:
    ratio = "parameters: {data.subsample_ratio: {choice: [0.1, 0.5], default: 0.5}}\n"
    options = "{weak: {data.subsample_ratio: 0.2}, strong: {optimiser.lr: 1.0e-3}}"
    bundles = f"parameters: {{kind: {{choice: {options}, default: strong}}}}\n"

    assert named_ratios(parse_space(HEAD + ratio)) == {0.1, 0.5}
    assert named_ratios(parse_space(HEAD + bundles)) == {0.2, 1.0}


def test_named_ratios_are_none_when_they_are_drawn_from_a_range() -> None:
    space = parse_space(HEAD + "parameters: {data.subsample_ratio: {uniform: [0.1, 1.0], default: 0.3}}\n")

    assert named_ratios(space) == frozenset()
