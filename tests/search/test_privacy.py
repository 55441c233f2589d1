import os

import pytest

from search.privacy import PRIVATE_ENVIRONMENT, keep_private


def test_keep_private_switches_every_report_off(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in PRIVATE_ENVIRONMENT:
        monkeypatch.delenv(name, raising=False)

    keep_private()

    assert {name: os.environ[name] for name in PRIVATE_ENVIRONMENT} == dict(PRIVATE_ENVIRONMENT)


def test_keep_private_leaves_the_users_own_choice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "1")

    keep_private()

    assert os.environ["RAY_USAGE_STATS_ENABLED"] == "1"


@pytest.mark.parametrize("name", ["MLFLOW_DISABLE_TELEMETRY", "NO_ALBUMENTATIONS_UPDATE", "RAY_USAGE_STATS_ENABLED"])
def test_private_environment_covers_every_library_that_reports(name: str) -> None:
    assert name in PRIVATE_ENVIRONMENT
