"""What a second trial on a node pays for 100,000 faces, opening the table against decoding the JPEGs again.

    python benchmarks/bench_table.py [--faces 100000] [--image-px 48] [--runs 5]

Ours is a process that has never seen the table, while another has it mapped: it opens it and has the training pixels
and labels as arrays. The peer reads and decodes JPEG files, grey and of that size already, with Pillow into one array,
as a loader does that keeps a data set in memory; 5,000 of them are decoded in each run, and the time scaled up. Memory
is anonymous memory, which each process has for itself, after every pixel was read as well. The faces are 1,000
generated ones, repeated with noise.
"""

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from measure import Target, anonymous_mb, bench_arguments, compare, medians_in_turn, report, wall_seconds
from numpy.typing import NDArray
from PIL import Image

from trainables.data.faces.faces import generate_faces
from trainables.data.table import Faces, FaceTable, open_table, write_table

N_DISTINCT, N_JPEGS = 1_000, 5_000
CLASSES = ("anger", "disgust", "fear", "happiness", "sadness", "surprise")


def main() -> int:
    """Measure and print; with `--open`, be the second process."""
    if sys.argv[1:2] == ["--open"]:
        return open_once(Path(sys.argv[2]))
    arguments = bench_arguments(__doc__, runs=5, faces=100_000, image_px=48)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        table = write_faces(folder / "table", n=arguments.faces, image_px=arguments.image_px)
        files = write_jpegs(folder / "jpegs", table)
        assert int(table.split("train").images[:, 0, 0].sum(dtype=np.int64)) > 0  # the first trial has it mapped
        opened: list[dict[str, float]] = []

        def ours() -> float:
            opened.append(in_second_process(table.path))
            return opened[-1]["seconds"]

        def peer() -> float:
            return wall_seconds(lambda: decode(files)) * arguments.faces / len(files)

        medians = medians_in_turn({"ours": ours, "peer": peer}, runs=arguments.runs)
    faces = f"{arguments.faces:,} faces of {arguments.image_px} px"
    anonymous_mb = max(run["anonymous_mb"] for run in opened)
    rows = [
        compare(
            f"opening a table of {faces} in a second process", 1000 * medians["ours"], "ms",
            peer="decoding its JPEGs with Pillow", peer_value=1000 * medians["peer"],
            target=Target(ratio_at_least=1000),
        ),
        compare(
            "memory of its own that the second process needs for them", anonymous_mb, "MB",
            peer="the decoded array", peer_value=arguments.faces * arguments.image_px**2 / 2**20,
            target=Target(value_at_most=1.0),
        ),
    ]  # fmt: skip
    return report(rows, arguments)


def open_once(path: Path) -> int:
    """The second trial: time to pixels and labels, and memory once all pixels were read."""
    before_mb = anonymous_mb()
    started_s = time.perf_counter()
    table = open_table(path)
    images, labels = table.split("train").images, table.split("train").expression
    seconds = time.perf_counter() - started_s
    n_seen = sum(int(part.any()) for part in np.array_split(images, 1000)) + int(labels.max() >= 0)
    assert n_seen == 1001
    print(json.dumps({"seconds": seconds, "anonymous_mb": anonymous_mb() - before_mb}))
    return 0


def in_second_process(path: Path) -> dict[str, float]:
    """What another process measures of opening."""
    words = [sys.executable, __file__, "--open", str(path)]
    found: dict[str, float] = json.loads(subprocess.run(words, check=True, capture_output=True).stdout)
    return found


def decode(files: list[Path]) -> NDArray[np.uint8]:
    """Faces [n, height, width] from JPEG files."""
    return np.stack([np.asarray(Image.open(file)) for file in files])


def write_faces(out: Path, *, n: int, image_px: int) -> FaceTable:
    """A table of n grey training faces."""
    expression = (np.arange(N_DISTINCT) % len(CLASSES)).astype(np.int8)
    subjects = list(range(N_DISTINCT))
    drawn = generate_faces(
        expression, subjects=subjects, keys=range(N_DISTINCT), domain="clean", seed=0, image_px=image_px
    )
    grey = drawn.images.mean(axis=3, keepdims=True).astype(np.uint8)

    def batches() -> Iterator[Faces]:
        generator = np.random.default_rng(0)
        for start in range(0, n, N_DISTINCT):
            some = grey[: n - start]
            noisy = np.clip(some + generator.integers(-9, 10, some.shape, dtype=np.int16), 0, 255).astype(np.uint8)
            yield Faces(noisy, expression[: len(some)], [f"{start + i}" for i in range(len(some))])

    valid = Faces(grey[:600], expression[:600], [f"v{i}" for i in range(600)])
    splits = {"train": batches(), "valid": valid}
    return write_table(out, splits=splits, classes=CLASSES, sources={"train": "generated"})  # type: ignore[arg-type]


def write_jpegs(folder: Path, table: FaceTable) -> list[Path]:
    """Some of a table's faces as JPEG files."""
    folder.mkdir()
    files = [folder / f"{row:05d}.jpg" for row in range(min(N_JPEGS, len(table.split("train"))))]
    for row, file in enumerate(files):
        Image.fromarray(table.split("train").images[row, :, :, 0]).save(file, quality=95)
    return files


if __name__ == "__main__":
    sys.exit(main())
