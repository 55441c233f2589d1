"""The page: figures side by side, what differs, what was chosen where, and what was not run."""

import io
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from search.reproduce.document import Evidence, row_document
from search.reproduce.measures import Answer, Expected, Faces
from search.reproduce.page import WIDTH, after, before, print_page, to_markdown
from search.reproduce.rows import Answers, Told
from search.reproduce.tables import find_table
from trainables.data.table import FaceTable


def measured(score: float, **others: Any) -> dict[str, Any]:
    interval = {"low": score - 0.05, "high": score + 0.05, "unit": "subject", "n_units": 24}
    return {"score": score, **interval, "parts": {}, "n_seeds": 1, "spread": None, **others}


def row(key: str, **others: Any) -> dict[str, Any]:
    empty: dict[str, Any] = {"ours": None, "also": None, "chosen": "", "expected": None, "notes": [], "no_score": ""}
    figures = {"published": None, "published_also": None, "is_member": False}
    return {"key": key, "title": f"row {key}", **figures, **empty, **others}


@pytest.fixture
def document() -> dict[str, Any]:
    data = {"path": "/faces", "n_train": 240, "n_valid": 96, "n_subjects": 24, "classes": ["anger", "fear"]}
    return {
        "paper": "002",
        "table": "8",
        "title": "blending",
        "citation": "Savchenko 2022, HSE-NN",
        "preset": "paper002",
        "metric": "macro_f1",
        "their_metric": "macro-F1 over 6 classes",
        "their_faces": "LSD's validation set",
        "their_also_faces": "other people",
        "data": data,
        "also": {**data, "path": "/others", "n_valid": 80},
        "n_seeds": 1,
        "first_seed": 0,
        "epochs": 2,
        "fixes": {"model.backbone": "resnet18"},
        "row_fixes": {"a": {"train.batch_size": 8}},
        "left_alone": {"model.backbone": ["b2"]},
        "random_start": True,
        "remarks": ["A remark."],
        "rows": [
            row("a", published=0.5972, published_also=0.4124, ours=measured(0.5), also=measured(0.4)),
            row("b", published=0.6846, ours=measured(0.6), chosen="w = 0.30",
                expected={"score": 0.55, "low": 0.5, "high": 0.6}),
            row("c", published=0.6, no_score="not run: needs a pre-trained model, --partner FILE"),
            row("d", ours=measured(0.3, spread=0.0123, parts={"P_EXPR": 0.3}), notes=["cut short after 1 epochs"]),
        ],
    }  # fmt: skip


def printed(document: dict[str, Any]) -> str:
    stream = io.StringIO()
    print_page(document, Console(file=stream, width=200, highlight=False))
    return stream.getvalue()


def test_page_says_that_the_data_differ_and_on_what_ours_stand(document: dict[str, Any]) -> None:
    text = " ".join(before(document))

    assert "The data differ. The paper's figures: macro-F1 over 6 classes, LSD's validation set" in text
    assert "These faces are not public" in text
    assert (
        "macro-F1 over 2 classes, on 96 valid faces of 24 people (anger, fear); train split: 240 faces of /faces"
        in text
    )
    assert "80 valid faces of 24 people (anger, fear) of /others; nothing was chosen there" in text


def test_markdown_has_the_papers_figures_beside_ours(document: dict[str, Any]) -> None:
    lines = to_markdown(document).splitlines()

    assert "| row | paper | ours | also | note |" in lines
    assert "| row a | 0.5972 / 0.4124 | 0.5000 [0.450, 0.550] | 0.4000 [0.350, 0.450] |  |" in lines
    assert "| row c | 0.60 | - | - | not run: needs a pre-trained model, --partner FILE |" in lines


def test_what_was_chosen_on_these_faces_is_marked_with_what_to_expect(document: dict[str, Any]) -> None:
    expected = "w = 0.30: chosen on these faces, on other people expect 0.5500 [0.500, 0.600]"

    assert expected in to_markdown(document)


def test_expectation_is_of_other_faces_when_people_are_not_known(document: dict[str, Any]) -> None:
    for n_people, words in ((0, "96 valid faces ("), (1, "96 valid faces of 1 person (")):
        unknown = to_markdown({**document, "data": {**document["data"], "n_subjects": n_people}})

        assert words in unknown
        assert "chosen on these faces, on other faces expect 0.5500" in unknown


def test_spread_over_seeds_and_parts_of_the_score_are_shown(document: dict[str, Any]) -> None:
    text = to_markdown(document)

    assert "0.3000 [0.250, 0.350]<br>+- 0.0123 | - | cut short after 1 epochs; P_EXPR 0.300 |" in text


def test_second_set_has_no_column_when_there_is_none(document: dict[str, Any]) -> None:
    alone = {**document, "also": None}

    assert "| row | paper | ours | note |" in to_markdown(alone)
    assert "Also:" not in to_markdown(alone)


def test_page_says_how_the_figures_came_about(document: dict[str, Any]) -> None:
    text = " ".join(after({**document, "n_seeds": 3, "first_seed": 4}))

    assert "A remark." in text
    assert "Every trained network started from random weights" in text
    assert "bootstrap that draws people (24)" in text
    assert "Mean of seeds 4 to 6" in text
    assert "preset paper002, with model.backbone=resnet18, a:train.batch_size=8, epochs 2" in text
    assert "--fix model.backbone left alone the rows that set it themselves: b2." in text


def test_terminal_page_keeps_to_its_width(document: dict[str, Any]) -> None:
    text = printed(document)

    assert max(len(line.rstrip()) for line in text.splitlines()) <= WIDTH
    assert "0.5000 [0.450, 0.550]" in text
    assert "[bold]" not in text


def test_page_of_failures_says_that_no_row_has_a_score(document: dict[str, Any]) -> None:
    failed = deepcopy(document)
    failed["rows"] = [row("a", published=0.5, no_score="failed: the disk [/] is full")]

    assert "No row has a score." in after(failed)
    assert "failed: the disk [/] is full" in " ".join(printed(failed).split())


@pytest.fixture
def evidence(faces: Faces, face_table: FaceTable) -> Evidence:
    return Evidence(told=(), valid=faces, also=faces, faces=face_table, other=None)


def test_row_of_several_seeds_has_their_mean_and_what_went_wrong(answers: list[Answer], evidence: Evidence) -> None:
    table = find_table("001:1")[1]
    expected = [Expected(0.4), Expected(0.6)]
    told: list[Told] = [
        *(Answers(answers[i], answers[i], chosen="w", expected=each) for i, each in enumerate(expected)),
        "diverged in epoch 1",
    ]

    found = row_document(table.row("s01"), table, told, evidence)

    assert found["published"] == 0.5596
    assert (found["ours"]["n_seeds"], found["also"]) == (2, found["ours"])
    assert found["notes"] == ["2 of 3 seeds: diverged in epoch 1"]
    assert found["expected"] == {"score": pytest.approx(0.5), "low": None, "high": None}


def test_row_without_answers_has_the_reasons_once(evidence: Evidence) -> None:
    table = find_table("001:1")[1]

    found = row_document(table.row("s01"), table, ["failed: a", "failed: b", "failed: a"], evidence)

    assert (found["ours"], found["also"], found["no_score"]) == (None, None, "failed: a; failed: b")


def test_page_can_be_written_where_a_path_holds_a_bar(document: dict[str, Any], tmp_path: Path) -> None:
    document["rows"][0]["notes"] = ["a|b"]

    assert "a\\|b" in to_markdown(document)
