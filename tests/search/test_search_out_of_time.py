"""A search whose time ends while another process still embeds the faces that its trials wait for."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

import pytest

from search.launch import run_search
from search.plan import SearchPlan
from search.resume import More, resume_search
from search.storage import open_folder
from spaces.errors import SearchError
from spaces.loading import parse_space
from trainables.embeddings.cache import default_cache
from trainables.embeddings.turns import one_at_a_time

if TYPE_CHECKING:
    from pathlib import Path

    from trainables.data.table import FaceTable

SPACE = """
name: late
fixed: {model.backbone: test_efficientnet, model.image_px: 32, train.epochs: 1, train.head_epochs: 1}
parameters: {optimiser.head_only_lr: {log_uniform: [1.0e-3, 1.0e-1]}}
"""


@contextmanager
def embeddings_being_computed_elsewhere() -> Iterator[None]:
    """Of all that the cache keeps now."""
    cache = default_cache()
    assert cache is not None
    removed = [entry.path for entry in cache.empty()]
    with ExitStack() as stack:
        for path in removed:
            stack.enter_context(one_at_a_time(path.with_suffix(".lock")))
        yield


@pytest.mark.ray
@pytest.mark.slow
def test_trials_that_wait_for_embeddings_when_time_is_up_are_taken_up_by_resume(
    face_table: "FaceTable", ray_local: None, tmp_path: "Path"
) -> None:
    space = parse_space(SPACE)
    run_search(space, data=face_table.path, storage=tmp_path, name="before", plan=SearchPlan(n_trials=1))

    with embeddings_being_computed_elsewhere(), pytest.raises(SearchError, match="give it more time"):
        run_search(
            space, data=face_table.path, storage=tmp_path, name="late",
            plan=SearchPlan(n_trials=1, max_concurrent=1, time_budget_s=14.0),
        )  # fmt: skip
    cut = open_folder(tmp_path, "late")
    ends = [record.end for record in cut.read_records()]
    outcome = resume_search(tmp_path, "late", More(time_budget_s=60.0))

    assert (ends, cut.read_manifest().status) == (["preempted"], "ended")
    assert [record.end for record in outcome.records] == ["completed"]
    assert outcome.records[0].best_macro_f1 is not None
