"""The words of `affectune reproduce`, and what it lists."""

import json
from pathlib import Path

import pytest

from search.cli import build_parser, main
from search.commands.reproduce import exit_code_of


def test_reproduce_without_a_table_lists_one_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["reproduce"]) == 0

    lines = capsys.readouterr().out.splitlines()
    names = [line.split()[0] for line in lines]
    assert names == [
        *("000:1", "001:1", "001:2", "001:3", "001:4", "002:8", "002:7", "002:2", "003:1", "004:1"),
    ]
    assert max(map(len, lines)) <= 100
    assert lines[1] == "001:1  Li et al. 2022: label smoothing, ViT (4 rows, 4 trials)"


def test_reproduce_lists_tables_as_one_json_document(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["reproduce", "--json"]) == 0

    rows = json.loads(capsys.readouterr().out)
    assert [row["preset"] for row in rows if row["name"] == "002:2"] == ["paper002-mtl"]
    assert all(row["citation"] and row["n_rows"] >= row["n_trials"] > 0 for row in rows)


def test_reproduce_reads_its_words() -> None:
    words = ["reproduce", "hse-nn:8", "--data", "d", "--also", "e", "--partner", "p", "--start", "s", "--seeds", "3"]

    args = build_parser().parse_words([*words, "--fix", "a=1", "b:c=2", "--epochs", "4", "--time-budget", "20m"])

    assert (args.table, args.data, args.also) == ("hse-nn:8", "d", "e")
    assert (args.partner, args.start) == (Path("p"), Path("s"))
    assert (args.seeds, args.epochs, args.time_budget, args.seed) == (3, 4, 1200, 0)
    assert args.fix == ["a=1", "b:c=2"]


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["001:1"], "--data must name a face table where a paper's table is run, got none: 001:1"),
        (["006", "--data", "d"], "paper must be a known one, got '006'; there are 000, 001, 002, 003, 004"),
        (["hust-art:1", "--data", "d"], "got 'hust-art'; did you mean 'hust-ant'"),
        (["001:5", "--data", "d"], "table of paper 001 must be one that can be run, got '5'; there are 1, 2, 3, 4"),
        (["001:1", "--data", "d", "--seeds", "0"], "argument --seeds: must be at least 1, got 0"),
        (["001:1", "--data", "d", "--fix", "train.epoch=1"], "did you mean 'train.epochs'"),
        (["001:1", "--data", "d", "--fix", "s9:train.epochs=1"], "must name a trained row of the table, got 's9'"),
        (["001:1", "--date", "d"], "option --date is unknown; did you mean '--data'"),
    ],
    ids=["no_data", "paper", "near_miss", "table", "seeds", "setting", "row", "option"],
)
def test_wrong_words_get_one_sentence_and_exit_code_2(
    words: list[str], sentence: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)

    code = main(["reproduce", *words])

    printed = capsys.readouterr()
    assert (code, printed.out) == (2, "")
    assert printed.err.startswith("affectune: ") and printed.err.count("\n") == 1
    assert sentence in printed.err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("interrupted", "ours", "code"),
    [(False, {"score": 0.5}, 0), (False, None, 1), (True, {"score": 0.5}, 130), (True, None, 130)],
    ids=["done", "no_score", "cut_off", "cut_off_before_a_score"],
)
def test_exit_code_says_how_the_table_ended(interrupted: bool, ours: dict[str, float] | None, code: int) -> None:
    assert exit_code_of({"interrupted": interrupted, "rows": [{"ours": None}, {"ours": ours}]}) == code


def test_table_that_is_no_face_table_gets_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = main(["reproduce", "001:1", "--data", str(tmp_path / "none"), "--storage", str(tmp_path / "s")])

    assert code == 1
    assert "face table must be a folder with dataset.json, got nothing there" in capsys.readouterr().err
    assert not (tmp_path / "s").exists()
