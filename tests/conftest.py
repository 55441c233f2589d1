"""What all tests share: a private environment, an order by cost, generated faces, one local Ray."""

import gc
import os
import sys
import tempfile

from search.privacy import keep_private

keep_private()
for _threads in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_threads, "1")
os.environ.setdefault("RAY_TRAIN_ENABLE_V2_MIGRATION_WARNINGS", "0")
_embeddings = tempfile.TemporaryDirectory(prefix="affectune-tests-")
os.environ["AFFECTUNE_CACHE"] = _embeddings.name  # never the user's; local workers of Ray inherit it

from collections.abc import Iterator  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import TYPE_CHECKING  # noqa: E402

import pytest  # noqa: E402

if TYPE_CHECKING:
    from playwright.sync_api import Browser

    from trainables.data.table import FaceTable

ROOT = Path(__file__).resolve().parents[1]
TOOLS = ROOT / "tests" / "tools"
"""Modules that tests of several folders import."""
if str(TOOLS) not in sys.path:
    sys.path.append(str(TOOLS))
COSTS = ("ray", "slow")
"""Markers from cheap to dear; a test without any of them is cheaper still."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """Tests marked `faults` take minutes each, and are asked for."""
    group = parser.getgroup("faults")
    group.addoption(
        "--faults", choices=("small", "full"), help="run the tests marked faults too: things fail a few times, or often"
    )
    group.addoption("--faults-rows", metavar="FILE", help="write what they measured there, as JSON")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Quick tests first, so that a mistake shows early; those marked `faults` only where they were asked for."""
    items.sort(key=_cost)
    if config.getoption("faults") or "faults" in config.getoption("markexpr"):
        return
    if left_out := [item for item in items if item.get_closest_marker("faults")]:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if not item.get_closest_marker("faults")]


def _cost(item: pytest.Item) -> int:
    return max((rank for rank, marker in enumerate(COSTS, start=1) if item.get_closest_marker(marker)), default=0)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """A test marked `gpu` is skipped where there is none."""
    if item.get_closest_marker("gpu") is None:
        return
    import torch

    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA GPU, there is none here")


@pytest.fixture(scope="module", autouse=True)
def nothing_old_to_look_through() -> None:
    """What is loaded by now is set aside: after every trial Python looks for garbage among all the rest."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def face_table(tmp_path_factory: pytest.TempPathFactory) -> "FaceTable":
    """A small table of generated faces: 240 train, 96 valid, 96 test, 40 px. Read it; do not change it."""
    from trainables.data.synth import write_synth_table

    out = tmp_path_factory.mktemp("faces") / "table"
    return write_synth_table(out, n_train=240, n_valid=96, n_test=96, image_px=40, seed=7)


@pytest.fixture(scope="session")
def ray_local() -> Iterator[None]:
    """The one local Ray that tests share: 2 CPUs. A test that uses it is marked `ray`."""
    import ray

    if not ray.is_initialized():
        ray.init(
            address="local",
            num_cpus=2,
            num_gpus=0,
            include_dashboard=False,
            object_store_memory=128 * 1024**2,
            log_to_driver=False,
            configure_logging=False,
        )
    yield
    ray.shutdown()


@pytest.fixture(scope="session")
def browser() -> "Iterator[Browser]":
    """Chromium without a window; tests that need it are skipped where it can't be started."""
    from chromium import find_chromium

    playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright: pip install playwright")
    program = find_chromium()
    if program is None:
        pytest.skip("needs Chromium: apt-get install chromium")
    with playwright.sync_playwright() as driver:
        started = driver.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture(scope="session")
def real_faces() -> Path:
    """The folder with real faces beside the checkout; tests that need it are skipped where it is missing."""
    folder = ROOT.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"needs real faces in {folder}, there are none")
    return folder
