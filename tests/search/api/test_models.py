"""Exported models in Python."""

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from search.api.models import Model
from spaces.errors import UsageError

if TYPE_CHECKING:
    from trainables.data.table import FaceTable


def test_faces_that_chose_a_model_do_not_judge_it(face_table: "FaceTable", tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"split must be test where the source is a face table, got valid: .*table"):
        Model(str(tmp_path)).evaluate(face_table.path, split="valid")
