"""An exported ensemble of three small untrained networks, a small search, and folders of searches that never ran."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from written_search import write_search

from search.folder import SearchFolder

if TYPE_CHECKING:
    from search.follow import SearchOutcome
    from trainables.checkpoint import NetworkSpec
    from trainables.data.table import FaceTable

CLASSES = ("anger", "fear", "happiness")


def save_small_network(path: Path, spec: "NetworkSpec", *, seed: int) -> Path:
    """An untrained network whose answers differ from face to face."""
    import torch

    from trainables.checkpoint import save_network
    from trainables.models.backbones import build_network

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = build_network(spec.backbone, n_classes=len(spec.classes))
        torch.nn.init.normal_(network.heads.linear.weight, std=5.0)
    save_network(path, network.state_dict(), spec)
    return path


@pytest.fixture(scope="session", autouse=True)
def impatient_searches() -> Iterator[None]:
    """Searches here end without waiting for their last pictures, but for the small one."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("search.trial_pages.CLOSE_S", 0.0)
        yield


@pytest.fixture(scope="session")
def network_files(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Networks that see grey at 40 px, grey at 40 px enlarged and with a class too many, and colour at 56 px.

    The second looks at mirror images too, and at faces moved by two pixels.
    """
    from trainables.checkpoint import NetworkSpec

    folder = tmp_path_factory.mktemp("networks")
    mean, std = (0.5, 0.45, 0.4), (0.2, 0.25, 0.3)
    specs = [
        NetworkSpec("test_efficientnet", CLASSES, 40, 40, 1, mean, std),
        NetworkSpec(
            "test_efficientnet",
            ("fear", "neutral", "anger", "happiness"),
            48,
            40,
            1,
            mean,
            std,
            mirror=True,
            shift_px=2,
        ),
        NetworkSpec("test_resnet", CLASSES, 40, 56, 3, mean, std),
    ]
    return [save_small_network(folder / f"{i}.safetensors", spec, seed=i) for i, spec in enumerate(specs)]


@pytest.fixture(scope="session")
def artifact(network_files: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An exported ensemble of them; the first network votes for two members. Read it; do not change it."""
    from search.export import ArtifactNetwork, write_artifact

    plain, wider, colour = network_files
    networks = [
        ArtifactNetwork(plain, weight=0.3, member="t0000", role="fine_tuned"),
        ArtifactNetwork(wider, weight=0.3, member="t0001", role="fine_tuned"),
        ArtifactNetwork(plain, weight=0.1, member="b000", role="partner"),
        ArtifactNetwork(colour, weight=0.3, member="b000", role="fine_tuned"),
        ArtifactNetwork(colour, weight=0.0, member="b001", role="partner"),
    ]
    out = tmp_path_factory.mktemp("artifact") / "model"
    card = "Chosen from the trials of a test."
    return write_artifact(out, networks=networks, classes=CLASSES, card=card, provenance={"search": "test"})


SEARCH_SPACE = """\
name: mini
description: one trial for each end
fixed:
  model.backbone: test_efficientnet
  model.image_px: 32
  train.epochs: 2
  train.batch_size: 16
  optimiser.lr: 1.0e-2
parameters:
  kind:
    choice:
      plain: {{model.weights: none}}
      constant: {{model.weights: none, blend.partner: {folder}/constant.safetensors, blend.weight: 1.0}}
      broken: {{model.weights: {folder}/nan.safetensors}}
      gone: {{model.weights: {folder}/gone.safetensors}}
      head: {{model.weights: none, blend.partner: head, blend.weight: 0.3, train.head_epochs: 1}}
    default: plain
  loss.label_smoothing: {{uniform: [0.0, 0.5], default: 0.1}}
points: [{{kind: constant}}, {{kind: broken}}, {{kind: gone}}, {{kind: head}}]
"""


def save_search_networks(folder: Path, classes: tuple[str, ...]) -> None:
    """A network that always says the first class, and weights that are no numbers."""
    import torch
    from safetensors.torch import save_file

    from trainables.checkpoint import NetworkSpec, save_network
    from trainables.models.backbones import build_network

    spec = NetworkSpec("test_efficientnet", classes, 32, 40, 1, (0.5,) * 3, (0.25,) * 3)
    network = build_network(spec.backbone, n_classes=len(classes))
    torch.nn.init.zeros_(network.heads.linear.weight)
    network.heads.linear.bias.data = torch.eye(len(classes))[0]
    save_network(folder / "constant.safetensors", network.state_dict(), spec)
    state = network.encoder.backbone.net.state_dict()
    broken = {name: tensor * float("nan") for name, tensor in state.items() if tensor.is_floating_point()}
    save_file({**state, **broken}, folder / "nan.safetensors")


@pytest.fixture(scope="session")
def small_search(
    ray_local: None, face_table: "FaceTable", tmp_path_factory: pytest.TempPathFactory
) -> "tuple[SearchOutcome, str]":
    """A search whose five trials completed, stopped, diverged, failed and completed; and what it said on the screen."""
    from contextlib import redirect_stdout
    from io import StringIO

    from search.launch import run_search
    from search.plan import SearchPlan
    from spaces.loading import parse_space

    storage = tmp_path_factory.mktemp("storage")
    save_search_networks(storage, tuple(face_table.info.classes))
    space = parse_space(SEARCH_SPACE.format(folder=storage), where="test")
    plan = SearchPlan(n_trials=5, max_concurrent=1, min_rung_trials=1)
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(StringIO()) as screen:
        patch.setattr("search.launch.check_launch", lambda *_: None)  # it would not let a missing file pass
        patch.setattr("search.trial_pages.CLOSE_S", 60.0)
        outcome = run_search(space, data=face_table.path, storage=storage, name="mini", plan=plan)
    return outcome, screen.getvalue()


@pytest.fixture(scope="session")
def small_ensemble(small_search: "tuple[SearchOutcome, str]") -> "tuple[SearchFolder, dict[str, Any]]":
    """The folder of the small search after its final job with two bags, and the summary."""
    from contextlib import redirect_stdout
    from io import StringIO

    from search.final import build_ensemble
    from search.plan import EnsemblePlan

    folder = small_search[0].folder
    with redirect_stdout(StringIO()):
        return folder, build_ensemble(folder, EnsemblePlan(n_bags=1, n_configs=2, max_members=3))


@pytest.fixture(scope="session")
def make_search() -> Callable[..., SearchFolder]:
    """A maker of searches that never ran: see `write_search`."""
    return write_search


@pytest.fixture
def made_search(tmp_path: Path) -> Callable[..., SearchFolder]:
    """The same, in a storage of the test's own."""
    return lambda name="made", **words: write_search(tmp_path / "runs" / name, **words)
