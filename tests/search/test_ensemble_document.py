"""ensemble.json before an export: what it relies on is there, and stays in the search's folder."""

import json
from pathlib import Path
from typing import Any

import pytest

from search.ensemble_document import as_written, check_ensemble
from spaces.errors import EnsembleError, SearchError

OPTION: dict[str, Any] = {
    "members": {"t0000": 1.0},
    "looks": "all",
    "temperature": 1.0,
    "valid": 0.5,
    "estimate": None,
    "low": None,
    "high": None,
    "ms": 1.0,
    "megabytes": 2.0,
    "is_chosen": True,
    "is_on_front": True,
}
NETWORK: dict[str, Any] = {"path": "trials/t0000/best.safetensors", "weight": 1.0, "role": "fine_tuned"}
ENSEMBLE: dict[str, Any] = {
    "classes": ["anger", "joy"],
    "method": "uniform",
    "temperature": 1.0,
    "voters": {"t0000": {"space": "probs", "networks": [NETWORK]}},
    "options": [OPTION],
    "scores": {},
    "differences": {},
    "methods": [],
    "notes": [],
    "run_key": "launch/ensemble",
    "people": None,
}


def written(folder: Path, **changes: Any) -> tuple[dict[str, Any], Path]:
    """An ensemble.json, some parts of it others."""
    path = folder / "mini" / "ensemble" / "ensemble.json"
    path.parent.mkdir(parents=True)
    ensemble = {**ENSEMBLE, **changes}
    path.write_text(json.dumps(ensemble))
    return ensemble, path


def test_ensemble_as_it_is_written_is_taken(tmp_path: Path) -> None:
    parts = check_ensemble(*written(tmp_path))

    assert parts.options[0].is_chosen
    assert parts.voters["t0000"].networks[0].role == "fine_tuned"


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"options": "many"}, "got options 'many'"),
        ({"options": [{**OPTION, "is_chosen": False}]}, "an option must be the chosen one, got none among 1"),
        ({"options": [{**OPTION, "members": {"t0009": 1.0}}]}, "must be among the voters, got 't0009'"),
        (
            {"voters": {"t0000": {"space": "probs", "networks": [{**NETWORK, "path": "../../x.safetensors"}]}}},
            r"networks must lie in the search's folder, got '\.\./\.\./x\.safetensors'",
        ),
    ],
    ids=["type", "chosen", "member", "path"],
)
def test_ensemble_of_another_make_is_refused(changes: dict[str, Any], problem: str, tmp_path: Path) -> None:
    with pytest.raises(SearchError, match=problem):
        check_ensemble(*written(tmp_path, **changes))


def test_odd_inner_part_becomes_a_sentence_and_our_own_errors_stay(tmp_path: Path) -> None:
    with (
        pytest.raises(
            SearchError, match=r"ensemble\.json must be as the final job wrote it, got another \(KeyError: 'x'\)"
        ),
        as_written(tmp_path / "ensemble.json"),
    ):
        raise KeyError("x")
    with pytest.raises(EnsembleError, match="mine"), as_written(tmp_path / "ensemble.json"):
        raise EnsembleError("mine")
