"""Names and values arrive at the tracking server within its rules."""

import math
from typing import TYPE_CHECKING

import pytest

from search.tracking_records import batches, describe_table, param_texts, record_name, split_metrics, tag_texts

if TYPE_CHECKING:
    from trainables.data.table import FaceTable


@pytest.mark.parametrize(
    ("name", "recorded"),
    [
        ("valid/f1/happiness", "valid/f1/happiness"),
        ("valid/f1/very happy", "valid/f1/very happy"),
        ("valid/f1/freude-überraschung", "valid/f1/freude-überraschung"),
        ("valid/f1/sad?", "valid/f1/sad_"),
        ("valid/f1/a:b", "valid/f1/a_b"),
        ("valid/f1/..", "valid/f1/_"),
        ("/f1//x/", "_/f1/_/x/_"),
    ],
)
def test_record_name_keeps_to_the_rules_of_mlflow(name: str, recorded: str) -> None:
    assert record_name(name) == recorded


def test_param_texts_read_like_yaml() -> None:
    texts = param_texts({"a": None, "b": True, "c": 0.1, "d": (1.0, 2.0), "e": "x" * 7000})

    assert (texts["a"], texts["b"], texts["c"], texts["d"]) == ("none", "true", "0.1", "[1.0, 2.0]")
    assert len(texts["e"]) == 6000
    assert texts["e"].endswith("...")


def test_tag_texts_are_cut_where_the_server_would_refuse_them() -> None:
    assert len(tag_texts({"affectune.note": "y" * 9000})["affectune.note"]) == 5000


def test_split_metrics_keeps_what_is_not_finite_apart_and_leaves_words_out() -> None:
    finite, strange = split_metrics({"a": 1, "b": math.nan, "c": -math.inf, "end": "", "d": True, "e": None})

    assert finite == {"a": 1.0}
    assert strange == {"b": "nan", "c": "-inf"}


def test_split_metrics_keeps_both_values_when_two_names_become_one() -> None:
    finite, _ = split_metrics({"f1/a?": 0.1, "f1/a!": 0.2})

    assert finite == {"f1/a_": 0.1, "f1/a_ 2": 0.2}


def test_batches_lose_nothing() -> None:
    assert list(batches([1, 2, 3, 4, 5], 2)) == [[1, 2], [3, 4], [5]]


def test_table_is_described_by_its_name_hash_and_contents(face_table: "FaceTable") -> None:
    told = describe_table(face_table)

    assert told["name"] == "table"
    assert face_table.info.content_hash.startswith(told["digest"]) and len(told["digest"]) == 8
    assert '"train": 240' in told["profile"]
