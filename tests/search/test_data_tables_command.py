"""`affectune data merge` and `upscale`, and orders of classes by name: what is printed, and the exit codes."""

import argparse
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from search.cli import main
from search.commands.options import class_names
from trainables.data.table import Faces, open_table, write_table


@pytest.fixture
def tables(tmp_path: Path) -> list[str]:
    """Six training faces of three classes each."""
    generator = np.random.default_rng(0)
    for name, classes in (("affect", ("anger", "fear", "contempt")), ("wild", ("anger", "fear", "other"))):
        images = generator.integers(0, 256, (6, 16, 16, 1), dtype=np.uint8)
        faces = Faces(images, np.array([0, 1, 2] * 2, np.int8), [f"{name}{row}" for row in range(6)])
        write_table(tmp_path / name, splits={"train": faces}, classes=classes, sources={})
    return [str(tmp_path / name) for name in ("affect", "wild")]


def test_merge_writes_a_table_and_shows_it(
    tables: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = main(["data", "merge", *tables, "--out", str(tmp_path / "out"), "--map", "contempt=other"])

    printed = capsys.readouterr()
    assert code == 0
    assert open_table(tmp_path / "out").info.class_counts["train"] == [4, 4, 4]
    assert "12 faces, 16 x 16 px, grey" in printed.out
    assert "class 'contempt' of" in printed.out
    assert "merging: 12 images" in printed.err


def test_merge_prints_one_document_when_asked_for_json(
    tables: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--out", str(tmp_path / "out"), "--classes", "fear,anger", "--image-px", "20", "--channels", "3", "--json"]

    code = main(["data", "merge", *tables, *words])

    printed = capsys.readouterr()
    document = json.loads(printed.out)
    assert (code, printed.err) == (0, "")
    assert (document["classes"], document["image_px"], document["channels"]) == (["fear", "anger"], 20, 3)


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (
            ["--map", "contemt=other"],
            2,
            "--map must name a class of the tables, got 'contemt'; did you mean 'contempt'",
        ),
        (["--map", "contempt"], 2, "argument --map: must be a class, = and another, such as contempt=other, got"),
        (["--map", "fear=a", "--map", "fear=b"], 2, "--map must rename a class once, got fear=a, fear=b"),
        (["--classes", "lsd6"], 1, "class 'disgust' must have training faces, got 0: "),
        (["--classes", "lsd7"], 2, "by its name, got 'lsd7'; did you mean 'lsd6'"),
        (["gone"], 1, "face table must be a folder with dataset.json, got nothing there: gone"),
    ],
    ids=["map", "no map", "map twice", "order", "no order", "no table"],
)
def test_merge_answers_wrong_words_with_a_sentence(
    tables: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    code: int,
    message: str,
) -> None:
    left = main(["data", "merge", *tables, *words, "--out", str(tmp_path / "out")])

    printed = capsys.readouterr()
    assert left == code
    assert message in printed.err
    assert printed.err.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_merge_of_one_table_says_so(tables: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "merge", tables[0], "--out", str(tmp_path / "out")]) == 2
    assert "tables to merge must be between 2 and 127, got 1: " in capsys.readouterr().err


def test_upscale_doubles_the_side_without_a_network(
    tables: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = main(["data", "upscale", tables[0], "--out", str(tmp_path / "out")])

    printed = capsys.readouterr()
    assert code == 0
    assert "6 faces, 32 x 32 px, grey" in printed.out
    assert "train made larger by lanczos resampling: from 16 to 32 px" in printed.out
    assert "upscaling: 6 images" in printed.err


@pytest.mark.parametrize(("words", "px"), [([], 48), (["--factor", "2"], 32)], ids=["its own factor", "factor"])
def test_upscale_takes_a_network(tmp_path: Path, words: list[str], px: int) -> None:
    network = torch.nn.Upsample(scale_factor=3.0, mode="nearest")
    torch.jit.script(network).save(tmp_path / "sr.pt")  # type: ignore[no-untyped-call]
    faces = Faces(np.zeros((4, 16, 16, 3), np.uint8), np.array([0, 1] * 2, np.int8), list("abcd"))
    write_table(tmp_path / "table", splits={"train": faces}, classes=["anger", "fear"], sources={})

    table, out, model = (str(tmp_path / name) for name in ("table", "out", "sr.pt"))
    code = main(["data", "upscale", table, "--out", out, "--model", model, *words])

    assert code == 0
    assert open_table(tmp_path / "out").info.image_px == px


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["--factor", "1"], 2, "argument --factor: must be at least 2, got 1"),
        (["--splits", "train,tset"], 2, "--splits must name splits of a table, got 'tset'; did you mean 'test'"),
        (["--model", "gone.pt"], 1, "super-resolution network must be a TorchScript file, got nothing there: gone.pt"),
        (["--model", "gone.pt", "--device", "tpu"], 1, "device must be cpu, cuda or cuda:NUMBER, got 'tpu'"),
        (["--device", "cuda"], 2, "--device must stand beside --model, got 'cuda' alone; resampling needs none"),
    ],
    ids=["factor", "split", "model", "device", "device_alone"],
)
def test_upscale_answers_wrong_words_with_a_sentence(
    tables: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    code: int,
    message: str,
) -> None:
    left = main(["data", "upscale", tables[0], "--out", str(tmp_path / "out"), *words])

    assert left == code
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_ingest_takes_an_order_of_classes_by_name_and_warns_of_the_misspelt_folder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    generator = np.random.default_rng(0)
    for name in ("ANGRER", "DISGUST", "FEAR", "HAPPINESS", "SADNESS", "SURPRISE"):
        (tmp_path / "faces" / name).mkdir(parents=True)
        for number in range(4):
            pixels = generator.integers(0, 256, (16, 16), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "faces" / name / f"{number}.png")
    words = ["--train", str(tmp_path / "faces"), "--out", str(tmp_path / "out"), "--classes", "lsd6", "--workers", "1"]

    code = main(["data", "ingest", *words])

    info = open_table(tmp_path / "out").info
    assert code == 0
    assert info.classes == ("anger", "disgust", "fear", "happiness", "sadness", "surprise")
    assert [sum(counts) for counts in zip(*info.class_counts.values(), strict=True)] == [4] * 6
    assert "warning: label 'ANGRER' is misspelt and counts as 'anger'" in capsys.readouterr().out


def test_order_of_classes_is_read_by_its_name() -> None:
    assert class_names("RAFDB7")[:2] == ["surprise", "fear"]
    with pytest.raises(argparse.ArgumentTypeError, match=r"must be names between commas, or an order .*, got 'joy'"):
        class_names("joy")
