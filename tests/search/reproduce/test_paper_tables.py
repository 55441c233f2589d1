"""The definitions of the papers' tables: found by their names, whole, and with the published figures."""

import numpy as np
import pytest

from search.reproduce.space import Wishes, row_settings
from search.reproduce.tables import Blend, Hand, Mean, Paper, Row, Table, Units, find_table, papers
from spaces.errors import UsageError
from spaces.loading import preset_names

LSD = ("anger", "disgust", "fear", "happiness", "sadness", "surprise")
TABLES = [(paper, table) for paper in papers() for table in paper.tables]
each_table = pytest.mark.parametrize(("paper", "table"), TABLES, ids=[f"{p.number}-{t.number}" for p, t in TABLES])

PUBLISHED = {
    "000:1": [0.50, 0.71],
    "001:1": [0.5332, 0.5596, 0.5739, 0.6043],
    "001:2": [0.5332, 0.5534, 0.5217, 0.5518],
    "001:3": [0.6037, 0.5838, 0.6025, 0.6548, 0.5884, 0.6270, 0.5609, 0.6116],
    "001:4": [0.6447, 0.6193, 0.6384, 0.6453, 0.6658],
    "002:8": [0.5972, 0.5824, 0.6400, 0.6718, 0.6846, 0.6094, 0.6198, 0.6450, 0.6729, 0.6818],
    "002:7": [
        *(0.5972, 0.5824, 0.6490, 0.5994, 0.6718),
        *(0.5206, 0.5989, 0.6412, 0.6005, 0.6544),
        *(0.6094, 0.6111, 0.6324, 0.6198, 0.6729),
    ],
    "002:2": [1.157, 1.250, 1.236, 1.276, 1.304, 1.300, 1.326],
    "003:1": [0.623, 0.630, 0.674, 0.700],
    "004:1": [0.230, 0.226, 0.3170, 0.3330, 0.3323, 0.3347, 0.3460],
}
"""Transcribed from the papers, in their order."""

ALSO = [0.4124, 0.3422, 0.4204, 0.3583, 0.4008, 0.4257, 0.4359, 0.4524, 0.3654, 0.3970]


@pytest.mark.parametrize(
    "words", ["001:1", "1:1", "1", "paper001", "hust-ant", "HUST-ANT:1", " 001:1 "], ids=lambda words: words.strip()
)
def test_table_is_found_by_any_of_its_papers_names(words: str) -> None:
    paper, table = find_table(words)

    assert (paper.number, table.number) == ("001", "1")


@pytest.mark.parametrize(
    ("words", "number"),
    [("paper002-mtl", "2"), ("paper002", "8"), ("paper002-mtl:7", "7")],
    ids=["of_the_preset", "first_of_the_preset", "numbered"],
)
def test_table_is_found_by_its_preset(words: str, number: str) -> None:
    assert find_table(words)[1].number == number


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ("009", "paper must be a known one, got '009'; there are 000, 001, 002, 003, 004"),
        ("hse-n", "got 'hse-n'; did you mean 'hse-nn'"),
        ("001:9", "table of paper 001 must be one that can be run, got '9'; there are 1, 2, 3, 4"),
        ("", "got ''; there are 000"),
    ],
    ids=["number", "near_miss", "table", "nothing"],
)
def test_table_that_is_not_there_is_refused_with_what_there_is(words: str, sentence: str) -> None:
    with pytest.raises(UsageError) as caught:
        find_table(words)

    assert sentence in str(caught.value)
    assert caught.value.exit_code == 2


def test_published_figures_are_the_papers() -> None:
    found = {f"{p.number}:{t.number}": [r.published for r in t.rows if r.published is not None] for p, t in TABLES}

    assert found == PUBLISHED
    assert [row.published_also for row in find_table("002:8")[1].rows if row.published_also] == ALSO


def test_published_sums_and_steps_agree_with_each_other() -> None:
    table = find_table("002:2")[1]
    mixed, thresholds = table.row("mixed"), table.row("thresholds")

    assert np.isclose(0.335 + 0.447 + 0.494, mixed.published or 0)
    assert np.isclose((thresholds.published or 0) - (mixed.published or 0), 0.522 - 0.494)
    assert np.isclose(np.mean([0.7331, 0.7730, 0.2486, 0.8640, 0.6532, 0.7229]), 0.6658, atol=5e-5)


@each_table
def test_every_trained_row_makes_a_config_over_its_preset(paper: Paper, table: Table) -> None:
    assert table.preset in preset_names()
    for row in table.trained:
        for classes, labels in ((LSD, []), (("Fear", "joy", "neutral"), ["hand", "landmarks"])):
            config = row_settings(row, table, Wishes(), classes=classes, labels=labels)

            assert config.blend.partner == "none"
            assert config.loss.class_weights is None or len(config.loss.class_weights) == len(classes)


@each_table
def test_rows_have_keys_of_their_own_and_point_back(paper: Paper, table: Table) -> None:
    seen: list[str] = []
    for row in table.rows:
        assert row.key not in seen
        assert set(named_by(row)) <= set(seen)
        seen.append(row.key)


@each_table
def test_trained_rows_differ_unless_the_start_makes_the_difference(paper: Paper, table: Table) -> None:
    seen = []
    for row in table.trained:
        assert row.train is not None
        config = row_settings(row, table, Wishes(), classes=LSD, labels=["landmarks", "hand"])
        seen.append((config, row.train.start, row.train.member))

    assert len({repr(each) for each in seen}) == len(seen)


def named_by(row: Row) -> list[str]:
    """Keys of the rows that a row is computed from."""
    match row.source:
        case Mean(of=keys) | Hand(of=keys):
            return list(keys)
        case Blend(partner=keys, fine_tuned=key):
            return [*keys, key]
        case Units(of=key):
            return [key]
        case _:
            return []


def test_members_become_rows_and_their_mean() -> None:
    table = find_table("004:1")[1]

    members = [row for row in table.rows if row.key.startswith("weak_scratch-")]

    assert [row.train.member for row in members if row.train] == [4, 5, 6]
    assert table.row("weak_scratch").mean == Mean(of=("weak_scratch-1", "weak_scratch-2", "weak_scratch-3"))
    assert table.row("weak_scratch").published == 0.3347
    assert members[0].published is None


def test_weights_by_class_meet_a_tables_classes_by_name() -> None:
    _, table = find_table("001:2")
    row = table.row("weighted")

    found = [
        row_settings(row, table, Wishes(), classes=classes, labels=[]).loss.class_weights
        for classes in (LSD, ("neutral", "Fear", "happy"))
    ]

    assert found == [(1, 3, 5, 1, 1, 1), (1, 5, 1)]


def test_row_must_be_one_thing() -> None:
    with pytest.raises(ValueError, match="row must be one thing, got 0: a"):
        Row(key="a", title="nothing")
