"""Libraries that would report are told not to, and passwords stay with the driver."""

import os
import subprocess
import sys

import pytest

from search.privacy import PRIVATE_ENVIRONMENT, SECRETS, hide_logins, keep_private, take_login, without_secrets


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


@pytest.fixture
def login(monkeypatch: pytest.MonkeyPatch) -> None:
    """No log-in; what a test sets is taken back."""
    for name in SECRETS:
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)


def test_login_of_an_address_goes_into_the_variables_of_the_client(login: None) -> None:
    plain = take_login("https://me:a%40b%3Ac@host:5000/mlflow")

    assert plain == "https://host:5000/mlflow"
    assert (os.environ["MLFLOW_TRACKING_USERNAME"], os.environ["MLFLOW_TRACKING_PASSWORD"]) == ("me", "a@b:c")


@pytest.mark.parametrize("uri", ["http://host:5000", "sqlite:////tmp/a@b/mlflow.db", "http://host/a@b"])
def test_address_without_a_login_stays_as_it_is(login: None, uri: str) -> None:
    assert take_login(uri) == uri
    assert "MLFLOW_TRACKING_USERNAME" not in os.environ


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("affectune search a --tracking-uri http://me:hush@host:5000 --json", "http://...@host:5000 --json"),
        ("postgresql://me:hush@db/mlflow", "postgresql://...@db/mlflow"),
        ("http://host:5000/a@b and me@host", "http://host:5000/a@b and me@host"),
    ],
)
def test_logins_in_a_text_are_hidden(text: str, shown: str) -> None:
    hidden = hide_logins(text)

    assert hidden.endswith(shown)
    assert "hush" not in hidden


def test_processes_that_are_started_without_secrets_do_not_get_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "hush")
    program = "import os; print(os.environ.get('MLFLOW_TRACKING_PASSWORD'))"

    with without_secrets():
        said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True).stdout

    assert said.strip() == "None"
    assert os.environ["MLFLOW_TRACKING_PASSWORD"] == "hush"
