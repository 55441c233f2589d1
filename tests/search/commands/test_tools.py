"""`affectune ui` and `affectune doctor` answer a person and a script."""

import json
from pathlib import Path

import pytest

from search import doctor
from search.cli import main
from search.doctor import Check

FINE = Check("python", "ok", "3.11.7")
BROKEN = Check("torch", "wrong", "not installed", "make setup")


def test_doctor_prints_what_to_do_and_leaves_with_1_when_something_is_wrong(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    looks = {"Python": lambda: [FINE], "PyTorch": lambda: [BROKEN]}
    monkeypatch.setattr(doctor, "examinations", lambda *, storage: looks)

    code = main(["doctor"])

    out = capsys.readouterr().out.splitlines()
    assert code == 1
    assert out[0].split() == ["ok", "python", "3.11.7"]
    assert out[2].strip() == "-> make setup"
    assert out[-1] == "1 wrong, 0 to look at, 1 ok"


def test_doctor_prints_what_it_has_seen_before_it_looks_on(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    printed: list[str] = []

    def look() -> list[Check]:
        printed.append(capsys.readouterr().out)
        return [FINE]

    monkeypatch.setattr(doctor, "examinations", lambda *, storage: {"Python": lambda: [FINE], "Ray": look})

    assert main(["doctor"]) == 0
    assert printed[0].split() == ["ok", "python", "3.11.7"]


def test_doctor_prints_one_json_document(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(doctor, "examinations", lambda *, storage: {"Python": lambda: [FINE]})

    code = main(["doctor", "--json"])

    assert code == 0
    assert json.loads(capsys.readouterr().out) == {
        "ok": True,
        "checks": [{"name": "python", "state": "ok", "found": "3.11.7", "advice": ""}],
    }


def test_ui_says_that_a_storage_is_empty(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = main(["ui", "--storage", str(tmp_path)])

    assert code == 1
    assert "affectune: storage must hold MLflow's database, got no " in capsys.readouterr().err


def test_ui_says_that_a_server_does_not_answer(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = main(["ui", "--storage", str(tmp_path), "--tracking-uri", "http://127.0.0.1:9"])

    assert code == 1
    assert "affectune: tracking server must answer, got connection refused" in capsys.readouterr().err


@pytest.mark.slow
def test_doctor_finds_nothing_wrong_where_the_tests_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = main(["doctor", "--json", "--storage", str(tmp_path)])

    checks = json.loads(capsys.readouterr().out)["checks"]
    wrong = [check for check in checks if check["state"] == "wrong" and not check["name"].startswith("free ")]
    assert wrong == []
    assert code in (0, 1)
