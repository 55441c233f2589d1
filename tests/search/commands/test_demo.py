"""The words of `affectune demo`."""

from pathlib import Path

import pytest

from search.cli import build_parser, main


def test_demo_reads_its_words() -> None:
    args = build_parser().parse_words(["demo", "--out", "here", "--trials", "20", "--time-budget", "5m", "--seed", "3"])

    assert (args.out, args.trials, args.time_budget, args.seed) == (Path("here"), 20, 300, 3)


def test_demo_needs_no_words() -> None:
    args = build_parser().parse_words(["demo"])

    assert (args.out, args.seed) == (None, 0)
    assert args.trials >= 12


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--trials", "1"], "argument --trials: must be at least 2, got 1"),
        (["--time-budget", "soon"], "argument --time-budget: must be a duration such as 90s, 20m or 1h30m, got 'soon'"),
        (["--seed", "-1"], "argument --seed: must be at least 0, got -1"),
        (["--trial", "4"], "option --trial is unknown; did you mean '--trials'"),
        (["here"], "one word too many, got 'here'"),
    ],
    ids=["trials", "duration", "seed", "near_miss", "extra_word"],
)
def test_wrong_words_get_one_sentence_and_exit_code_2(
    words: list[str], sentence: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)

    code = main(["demo", *words])

    printed = capsys.readouterr()
    assert (code, printed.out) == (2, "")
    assert printed.err.startswith(f"affectune: {sentence}; 'affectune demo --help'") and printed.err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []
