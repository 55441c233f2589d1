"""The doctor sees what is wrong and says what to do."""

from pathlib import Path

import pytest

from search import doctor
from search.doctor import (
    GIB,
    available_memory,
    check_cores,
    check_disk,
    check_import,
    check_memory,
    check_packages,
    check_privacy,
    check_python,
    check_spaces,
    pinned_versions,
    required_packages,
)

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(
    ("version", "state"), [((3, 10, 1), "wrong"), ((3, 11, 7), "ok"), ((3, 13, 0), "warn")], ids=["old", "right", "new"]
)
def test_check_python_wants_the_version_that_everything_is_pinned_for(
    version: tuple[int, int, int], state: str
) -> None:
    assert check_python(version).state == state


def _checkout(folder: Path, *, constraints: str) -> Path:
    (folder / "setup.cfg").write_text("[options]\ninstall_requires =\n    Py_Yaml>=6\n    ray[tune]>=2.60\n")
    (folder / "constraints.txt").write_text(constraints)
    return folder


def test_check_packages_compares_with_the_constraints(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "installed_version", {"py-yaml": "6.0.3+cpu", "ray": "2.59.0"}.get)
    checkout = _checkout(tmp_path, constraints="# pins\nPy.YAML==6.0.3\nray==2.60.0 ; python_version > '3'\n")

    checks = list(check_packages(checkout))

    assert [(check.name, check.state, check.found) for check in checks] == [
        ("py-yaml", "ok", "6.0.3+cpu"),
        ("ray", "warn", "2.59.0, tested with 2.60.0"),
    ]


def test_check_packages_names_what_is_not_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "installed_version", lambda name: None)
    checkout = _checkout(tmp_path, constraints="ray==2.60.0\n")

    assert [check.state for check in check_packages(checkout)] == ["wrong", "wrong"]


def test_constraints_pin_every_package_that_affectune_needs() -> None:
    pinned = pinned_versions(ROOT / "constraints.txt")

    assert {"torch", "ray", "mlflow"} <= set(required_packages(ROOT / "setup.cfg")) <= set(pinned)


def test_check_spaces_finds_ours() -> None:
    assert check_spaces(ROOT).state == "ok"


def test_check_spaces_tells_another_package_from_ours(tmp_path: Path) -> None:
    check = check_spaces(tmp_path)

    assert check.state == "wrong"
    assert "pip uninstall spaces" in check.advice


def test_check_import_says_why_a_module_does_not_load() -> None:
    assert check_import("json").state == "ok"
    assert check_import("no_such_module").found == "ModuleNotFoundError: No module named 'no_such_module'"


@pytest.mark.parametrize(("gib", "state"), [(16, "ok"), (6, "warn"), (1, "wrong")])
def test_check_memory_weighs_what_is_free(gib: int, state: str) -> None:
    assert check_memory(gib * GIB).state == state


def test_check_cores_warns_of_a_single_one() -> None:
    assert (check_cores(1).state, check_cores(2).state) == ("warn", "ok")


def test_available_memory_keeps_to_the_limit_of_a_container(tmp_path: Path) -> None:
    (tmp_path / "meminfo").write_text("MemTotal: 9 kB\nMemAvailable:  8000 kB\n")
    (tmp_path / "memory.max").write_text("5000000\n")
    (tmp_path / "memory.current").write_text("1000000\n")

    assert available_memory(meminfo=tmp_path / "meminfo", cgroup=tmp_path) == 4_000_000
    assert available_memory(meminfo=tmp_path / "meminfo", cgroup=tmp_path / "none") == 8_192_000
    assert available_memory(meminfo=tmp_path / "none", cgroup=tmp_path / "none") is None


def test_check_disk_looks_where_the_storage_will_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    storage = tmp_path / "not" / "there" / "yet"
    assert str(storage) in check_disk(storage).found

    monkeypatch.setattr(doctor, "LEAST_DISK", 10**18)
    monkeypatch.setattr(doctor, "GOOD_DISK", 10**18)

    assert check_disk(storage).state == "wrong"


def test_check_privacy_warns_when_a_library_may_report(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "1")

    by_name = {check.name: check for check in check_privacy()}

    assert by_name["RAY_USAGE_STATS_ENABLED"].state == "warn"
    assert "export RAY_USAGE_STATS_ENABLED=0" in by_name["RAY_USAGE_STATS_ENABLED"].advice
    assert by_name["MLFLOW_DISABLE_TELEMETRY"].state == "ok"
