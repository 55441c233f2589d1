"""What the fault tests share: a place for searches, a table of faces, random moments, and where figures are noted."""

import json
import random
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import pytest

HERE = Path(__file__).resolve().parent
for _folder in (HERE, HERE.parents[1] / "benchmarks"):  # rows are the benchmarks'
    if str(_folder) not in sys.path:
        sys.path.append(str(_folder))

if TYPE_CHECKING:
    from measure import Row
    from searches import Place

Scale = Literal["small", "full"]


@pytest.fixture(scope="session")
def scale(request: pytest.FixtureRequest) -> Scale:
    """How often and how long things fail: as often as they have to bear, unless --faults says small."""
    return request.config.getoption("faults") or "full"


@pytest.fixture(scope="session")
def figures(request: pytest.FixtureRequest) -> "Iterator[Callable[[Row], None]]":
    """Notes a row of the table; all of them are written where --faults-rows says."""
    rows: list[Row] = []
    yield rows.append
    if file := request.config.getoption("faults_rows"):
        Path(file).write_text(json.dumps([asdict(row) for row in rows], indent=2) + "\n", encoding="utf-8")


@pytest.fixture
def moments() -> random.Random:
    """From which random moments are drawn; what it was seeded with is shown where a test fails."""
    seed = random.SystemRandom().randrange(2**32)
    print(f"moments are drawn with seed {seed}")
    return random.Random(seed)


@pytest.fixture(scope="session")
def faces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A table of generated faces, of which a tiny network sees an epoch in about a second."""
    from trainables.data.synth import write_synth_table

    out = tmp_path_factory.mktemp("faces") / "table"
    return write_synth_table(out, n_train=900, n_valid=200, n_test=60, image_px=32, seed=7).path


@pytest.fixture
def place(faces: Path, tmp_path: Path) -> "Iterator[Place]":
    """A storage for searches; whatever process was started there has gone when the test has ended."""
    from processes import end_all
    from searches import Place

    with tempfile.TemporaryDirectory(prefix="af-", ignore_cleanup_errors=True) as ray_dir:  # a socket's path is short
        there = Place(tmp_path, faces, Path(ray_dir))
        try:
            yield there
        finally:
            end_all(there.mark)
            for command in there.commands:
                command.process.wait()
