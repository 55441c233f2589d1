"""Every command of the tutorial, the page on own faces and the README, in their order, as a newcomer types them.

Words that name a time, a number of trials or a device are shortened; everything else is as it stands.
"""

import os
import shlex
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from pages import blocks_of, commands_of

from search.cli import main

if TYPE_CHECKING:
    from trainables.data.table import FaceTable, Split

ROOT = Path(__file__).resolve().parents[1]
LITE0 = "tf_efficientnet_lite0.imagenet.safetensors"

pytestmark = [pytest.mark.ray, pytest.mark.slow]

TypeAll = Callable[..., dict[str, str]]


def commands_of_ours(page: str) -> list[list[str]]:
    """The words of the page's commands of ours, without the program's name."""
    words = [shlex.split(command) for command in commands_of(ROOT / page)]
    return [typed[1:] for typed in words if typed[0] == "affectune"]


@pytest.fixture
def type_all(
    ray_local: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> TypeAll:
    """Types a page's commands in a folder of its own, and gives what each printed by its first two words."""

    def go(page: str, shorter: Mapping[str, str] | None = None, without: tuple[str, ...] = ()) -> dict[str, str]:
        said: dict[str, str] = {}
        for words in commands_of_ours(page):
            if words[0] in without:
                continue
            text = shlex.join(words)
            for long, short in (shorter or {}).items():
                text = text.replace(long, short)
            assert main(shlex.split(text)) == 0, f"{text}: {capsys.readouterr().err}"
            said[" ".join(words[:2])] = capsys.readouterr().out
        return said

    monkeypatch.setattr("search.trial_pages.CLOSE_S", 0.0)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("AFFECTUNE_STORAGE", raising=False)
    return go


def split_of(table: "FaceTable", name: str) -> "Split":
    """Of a table of generated faces, the sealed one too."""
    split = table.sealed_test() if name == "test" else table.split("train" if name == "train" else "valid")
    assert split is not None
    return split


def save_pictures(table: "FaceTable", split: str, out: Path) -> Path:
    """A folder a class."""
    from PIL import Image

    faces = split_of(table, split)
    for row, label in enumerate(faces.expression):
        folder = out / table.info.classes[int(label)]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.squeeze(faces.images[row])).save(folder / f"{row:04d}.png")
    return out


def test_every_command_of_the_tutorial_does_what_the_page_says(type_all: TypeAll, tmp_path: Path) -> None:
    said = type_all("docs/tutorial.md")

    assert len(said) == 11
    assert (tmp_path / "faces.png").is_file() and (tmp_path / "runs" / "first" / "report.html").is_file()
    assert "t0000 started    the default" in said["search core"]
    assert "ended" in said["status first"]
    assert "valid  optimism" in said["ensemble first"]
    assert "macro-F1" in said["evaluate model"] and said["predict model"].count(".png") == 12


def test_every_command_of_the_page_on_own_faces_does_what_it_says(
    type_all: TypeAll, tmp_path: Path, face_table: "FaceTable"
) -> None:
    save_pictures(face_table, "train", tmp_path / "pictures")
    save_pictures(face_table, "valid", tmp_path / "elsewhere")

    said = type_all(
        "docs/own-faces.md",
        {
            "--time-budget 5m": "--trials 2",
            "lcnet_050": "test_efficientnet train.epochs=1",
            "--time-budget 20m": "--trials +1",
            "ensemble first": "ensemble first --bags 0",
        },
    )

    assert "test cut from train" in said["data ingest"] and "2 trials" in said["search core"]
    assert "estimate" in said["ensemble first"] and "3 of 3 trials" in said["resume first"]
    assert '"probabilities"' in said["predict model"] and "macro-F1" in said["evaluate model"]
    assert (tmp_path / "runs" / "first" / "report.html").is_file()


@pytest.mark.skipif(
    os.environ.get("AFFECTUNE_LONG") != "1", reason="searches seven times; AFFECTUNE_LONG=1 asks for it"
)
def test_every_command_of_the_readme_works(type_all: TypeAll, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_what_the_readme_has(tmp_path)
    monkeypatch.setenv("AFFECTUNE_CACHE", str(tmp_path / "cache"))

    said = type_all(
        "README.md",
        {
            "--time-budget 20m": "--trials 2 --fix train.epochs=1",
            "--first heads:200": "--first heads:8",
            "--trials 500": "--trials 8",
            "--trials 40": "--trials 2",
            "--trials 20": "--trials 1 --fix train.epochs=1",
            "--trials +10": "--trials +1",
            "--time-budget 10m": "--time-budget 30s",
            "--device cuda": "--device cpu",
            "reproduce 001:1": "reproduce 004:1",  # whose networks take small faces
            "--seeds 3": "--epochs 1 --fix model.image_px=32 data.subsample_ratio=0.2",
        },
        without=("ui",),
    )

    assert (tmp_path / "models" / "fer6" / "artifacts").is_dir() and (tmp_path / "models" / "quick").is_dir()
    assert "wild_faces/dev.parquet" in said["ensemble fer6"]


def make_what_the_readme_has(folder: Path) -> None:
    """The files that the README's commands name, of generated faces."""
    import timm
    import torch
    from PIL import Image
    from safetensors.torch import save_file

    from trainables.data.synth import write_synth_table
    from trainables.data.table import Faces, write_table

    table = write_synth_table(folder / "synth", n_train=240, n_valid=120, n_test=60, image_px=48, seed=1)
    save_parquet(table, "train", folder / "fer2013" / "train.parquet")
    save_parquet(table, "valid", folder / "fer2013" / "valid.parquet")
    save_parquet(table, "test", folder / "wild_faces" / "dev.parquet")
    for split in ("train", "valid"):
        save_pictures(table, split, folder / "lsd" / split)
    Image.fromarray(np.squeeze(split_of(table, "valid").images[0])).save(folder / "face.jpg")
    (folder / "data").mkdir()
    train = split_of(table, "train")
    for name, eighth, start in (("affectnet", "contempt", 0), ("expw", "other", 120)):
        more = np.arange(120) % 8
        labels = np.where(more >= 6, more, train.expression[start : start + 120]).astype(np.int8)
        ids = [f"{name}{row}" for row in range(120)]
        faces = Faces(np.asarray(train.images[start : start + 120]), labels, ids)
        write_table(
            folder / "data" / name,
            splits={"train": faces},
            classes=(*table.info.classes, "neutral", eighth),
            sources={},
        )
    save_file(timm.create_model("tf_efficientnet_lite0", pretrained=False).state_dict(), folder / LITE0)
    larger = torch.nn.Upsample(scale_factor=2)
    torch.jit.trace(larger, torch.zeros(1, 3, 48, 48)).save(str(folder / "realesrgan.pt"))  # type: ignore[no-untyped-call]
    (folder / "small.yaml").write_text(blocks_of(ROOT / "README.md", "yaml")[0], encoding="utf-8")


def save_parquet(table: "FaceTable", split: str, out: Path) -> None:
    """Columns `id`, `image`, `expression`."""
    import io

    import pyarrow
    import pyarrow.parquet
    from PIL import Image

    faces, images = split_of(table, split), []
    for row in range(len(faces)):
        encoded = io.BytesIO()
        Image.fromarray(np.squeeze(faces.images[row])).save(encoded, "JPEG", quality=95)
        images.append(encoded.getvalue())
    columns = {
        "id": [f"{split}{row}" for row in range(len(faces))],
        "image": images,
        "expression": [table.info.classes[int(label)] for label in faces.expression],
    }
    out.parent.mkdir(parents=True, exist_ok=True)
    pyarrow.parquet.write_table(pyarrow.table(columns), out)
