"""The words of `affectune ensemble` and `affectune export`."""

from pathlib import Path

import pytest

from search.cli import build_parser, main


def test_ensemble_reads_its_words() -> None:
    words = ["ensemble", "faces", "--bags", "0", "--members", "5", "--time-budget", "90s", "--storage", "here"]

    args = build_parser().parse_words(words)

    assert (args.name, args.bags, args.members, args.time_budget) == ("faces", 0, 5, 90)
    assert (args.configs, args.seed, args.storage) == (3, 0, Path("here"))


def test_export_reads_its_words() -> None:
    args = build_parser().parse_words(["export", "faces", "--out", "model", "--register", "expressions"])

    assert (args.name, args.out, args.register) == ("faces", Path("model"), "expressions")


def test_export_reads_its_limits_and_formats() -> None:
    words = ["--max-ms", "2.5", "--max-mb", "20", "--max-members", "3", "--format", "onnx", "--replace"]

    args = build_parser().parse_words(["export", "faces", "--out", "model", *words])

    assert (args.max_ms, args.max_mb, args.max_members, args.format, args.replace) == (2.5, 20.0, 3, "onnx", True)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["ensemble"], "the following arguments are required: NAME"),
        (["ensemble", "a", "--bags", "-1"], "argument --bags: must be at least 0, got -1"),
        (["ensemble", "a", "--members", "0"], "argument --members: must be at least 1, got 0"),
        (["ensemble", "a", "--bag", "3"], "option --bag is unknown; did you mean '--bags'"),
        (["ensemble", "a", "--time-budget", "0"], "argument --time-budget: must be above 0, got '0'"),
        (["ensemble", "a", "--objective", "worst"], "--objective worst needs faces of another kind"),
        (["export", "a", "--out", "m", "--max-ms", "0"], "argument --max-ms: must be above 0, got 0"),
        (["export", "a", "--out", "m", "--force"], "--force makes a registered version the champion; --register MODEL"),
        (["export", "a"], "the following arguments are required: --out"),
        (["export", "a", "--out", ""], "argument --out: must name a file or folder, got ''"),
        (["export", "a", "--out", "m", "--registr", "x"], "option --registr is unknown; did you mean '--register'"),
    ],
    ids=[
        "no_name",
        "bags",
        "members",
        "near_miss",
        "duration",
        "objective",
        "limit",
        "force",
        "no_out",
        "empty_out",
        "export_near_miss",
    ],
)
def test_wrong_words_get_one_sentence_and_exit_code_2(
    words: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code = main(words)

    printed = capsys.readouterr()
    assert (code, printed.out) == (2, "")
    assert printed.err.startswith(f"affectune: {sentence}") and printed.err.count("\n") == 1


@pytest.mark.parametrize("words", [["ensemble", "faces"], ["export", "faces", "--out", "OUT"]], ids=lambda w: w[0])
def test_search_that_is_not_there_gets_a_sentence(
    words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = main([*(str(tmp_path / "model") if word == "OUT" else word for word in words), "--storage", str(tmp_path)])

    assert code == 1
    assert capsys.readouterr().err.startswith("affectune: search must be in the storage, got 'faces'")
    assert list(tmp_path.iterdir()) == []
