"""The words of `affectune search` and `affectune resume`."""

from pathlib import Path

import pytest

from search.cli import build_parser, main
from search.commands.launch import _print
from search.folder import SearchFolder, SearchManifest, TrialRecord
from search.follow import SearchOutcome
from search.plan import SearchPlan


def test_search_reads_its_words() -> None:
    words = ["search", "core", "--data", "d", "--trials", "5", "--time-budget", "20m", "--fix", "a=1", "b=2"]

    args = build_parser().parse_words([*words, "--fix", "c=3"])

    assert (args.space, args.data, args.trials, args.time_budget) == ("core", "d", 5, 1200)
    assert args.fix == ["a=1", "b=2", "c=3"]
    assert (args.seed, args.name, args.json) == (0, None, False)
    assert args.let_finish == SearchPlan().reprieve_share


@pytest.mark.parametrize(("word", "more"), [("+10", {"n_more": 10}), ("20", {"n_trials": 20})], ids=["more", "in_all"])
def test_resume_reads_more_trials_or_trials_in_all(word: str, more: dict[str, int]) -> None:
    assert build_parser().parse_words(["resume", "a", "--trials", word]).trials == more


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["search"], "the following arguments are required: SPACE, --data"),
        (["search", "core", "--data", "d", "--trials", "0"], "argument --trials: must be at least 1, got 0"),
        (["search", "core", "--data", "d", "--trails", "4"], "option --trails is unknown; did you mean '--trials'"),
        (["search", "core", "--data", "d", "--time-budget", "soon"], "argument --time-budget: must be a duration"),
        (["search", "core", "--data", "d", "--let-finish", "5"], "argument --let-finish: must be at most 1, got 5"),
        (["search", "core", "--data", "d", "--gpus-per-trial", "-1"], "argument --gpus-per-trial: must be 0 or more"),
        (["search", "core", "--data", "d", "--fix", "model"], "--fix must be KEY=VALUE, got 'model'"),
        (["search", "core", "--data", "d", "--fix", "model.backbon=x"], "did you mean 'model.backbone'"),
        (["search", "cor", "--data", "d"], "space must be a preset or a YAML file, got 'cor'; did you mean 'core'"),
        (["resume"], "the following arguments are required: NAME"),
        (["resume", "a", "--trials", "+0"], "argument --trials: must be at least 1, got 0"),
        (["resume", "a", "--trials", "many"], "argument --trials: must be a whole number, got 'many'"),
        (["resume", "a", "--space", "cor"], "space must be a preset or a YAML file, got 'cor'; did you mean 'core'"),
        (["resume", "a", "b"], "one word too many, got 'b'"),
    ],
    ids=[
        "no_words",
        "no_trials",
        "near_miss",
        "duration",
        "share",
        "gpus",
        "fix",
        "setting",
        "space",
        "no_name",
        "no_more",
        "no_number",
        "no_space",
        "two_names",
    ],
)
def test_wrong_words_get_one_sentence_and_exit_code_2(
    words: list[str], sentence: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)

    code = main(words)

    printed = capsys.readouterr()
    assert (code, printed.out) == (2, "")
    assert printed.err.startswith("affectune: ") and printed.err.count("\n") == 1
    assert sentence in printed.err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("interrupted", "code"), [(True, 130), (False, 0)], ids=["interrupted", "done"])
def test_search_that_was_interrupted_leaves_with_130_and_says_how_to_go_on(
    interrupted: bool, code: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    manifest = SearchManifest(
        name="s", data="d", content_hash="0", classes=("a", "b"), seed=0, n_trials=2, time_budget_s=None,
        tracking_uri="sqlite:///m.db",
    )  # fmt: skip
    folder = SearchFolder(tmp_path / "s")
    folder.write_manifest(manifest)
    trial = TrialRecord("t0000", 0, values={}, config={}, end="preempted", best_macro_f1=0.5)

    left_with = _print(SearchOutcome(folder, [trial], interrupted=interrupted), as_json=False)

    out = capsys.readouterr().out
    assert left_with == code
    assert (f"affectune resume s --storage {tmp_path}" in out) == interrupted
    assert "best trial    t0000, macro-F1 0.5000 on valid" in out
