"""A person can follow a search, on a terminal and in a log."""

import io
import math

from rich.console import Console

from search.console import SearchConsole
from search.folder import TrialRecord

DEFAULT = {"optimiser.lr": 0.001, "optimiser.name": "adamw", "lr_schedule.name": "cosine", "train.epochs": 6}


class Clock:
    """Time that passes when it is told to."""

    seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


def _report(epoch: int, macro_f1: float) -> dict[str, float]:
    return {
        "epoch": epoch,
        "train/loss": 1.25,
        "valid/macro_f1": macro_f1,
        "best/macro_f1": macro_f1,
        "best/epoch": epoch,
        "time/epoch_s": 12.34,
    }


def _trial(number: int, **settings: object) -> TrialRecord:
    return TrialRecord(trial_id=f"t{number:04}", number=number, values={}, config={**DEFAULT, **settings})


def _log_of(width: int = 200) -> tuple[SearchConsole, io.StringIO, Clock]:
    out, clock = io.StringIO(), Clock()
    console = Console(file=out, width=width)
    return SearchConsole(n_trials=12, time_budget_s=1200, console=console, clock=clock), out, clock


def test_console_writes_a_plain_line_an_event_when_it_is_no_terminal() -> None:
    following, out, clock = _log_of()

    following.trial_started(_trial(0))
    clock.seconds = 75
    following.epoch("t0000", _report(1, 0.41))
    following.trial_ended("t0000", "completed", best_macro_f1=0.41)
    following.close()

    assert out.getvalue().splitlines() == [
        "   0:00  t0000 started    the default",
        "   1:15  t0000 epoch 1/6   macro-F1 0.4100  best 0.4100  loss 1.250  12.3 s",
        "   1:15  t0000 completed  macro-F1 0.4100  | 1 of 12 trials (1 completed), best 0.4100 t0000, default 0.4100",
        "   1:15  ended: 1 of 12 trials (1 completed), best 0.4100 t0000, default 0.4100",
    ]


def test_console_says_when_a_trial_goes_on_with_fewer_faces_at_once() -> None:
    following, out, _ = _log_of()

    following.trial_started(_trial(0))
    following.epoch("t0000", {**_report(1, 0.41), "train/n_oom": 2.0, "train/micro_batch": 16.0})

    assert out.getvalue().splitlines()[1].endswith("12.3 s  out of memory 2 times, 16 faces at once")


def test_console_keeps_an_event_on_one_line_when_the_log_is_narrow() -> None:
    following, out, _ = _log_of(width=40)

    following.trial_started(_trial(0))
    following.trial_started(_trial(1, **{"optimiser.lr": 0.0123456, "optimiser.name": "adam"}))

    assert out.getvalue().splitlines()[1] == "   0:00  t0001 started    lr=0.0123 optimiser.name=adam"


def test_console_says_why_a_trial_failed() -> None:
    following, out, _ = _log_of()

    following.trial_started(_trial(3))
    following.trial_ended("t0003", "failed", error="CUDA out of memory [at 7]\nTraceback ...")

    assert "t0003 failed     macro-F1 -  CUDA out of memory [at 7]  | 1 of 12 trials (1 failed)" in out.getvalue()


def test_console_survives_news_of_a_trial_it_never_saw() -> None:
    following, out, _ = _log_of()

    following.epoch("t0009", _report(1, 0.2))
    following.trial_ended("t0009", "preempted")

    assert "t0009 preempted  macro-F1 -" in out.getvalue()


def test_console_shows_a_loss_that_is_not_finite() -> None:
    following, out, _ = _log_of()

    following.trial_started(_trial(1))
    following.epoch("t0001", {**_report(1, 0.1), "train/loss": math.nan})

    assert "loss nan" in out.getvalue()


def test_console_counts_and_ranks_trials_of_earlier_launches() -> None:
    out = io.StringIO()
    default, other = _trial(0), _trial(1, **{"optimiser.lr": 0.5})
    default.end, default.best_macro_f1 = "completed", 0.5
    other.end, other.best_macro_f1 = "stopped", 0.6

    following = SearchConsole(earlier=[default, other], console=Console(file=out, width=200), clock=Clock())
    following.trial_started(_trial(2, **{"optimiser.lr": 0.25}))
    following.close()

    assert out.getvalue().splitlines() == [
        "   0:00  t0002 started    lr=0.25",
        "   0:00  ended: 2 trials (1 completed, 1 stopped), best 0.6000 t0001, default 0.5000",
    ]


def test_console_counts_bags_of_a_config_that_is_no_trial() -> None:
    out = io.StringIO()
    config = {**DEFAULT, "train.seed": 0}
    following = SearchConsole(default=config, n_trials=2, noun="bag", console=Console(file=out, width=200))

    following.trial_started(TrialRecord("b000", 0, values={}, config={**config, "train.seed": 7}))
    following.epoch("b000", _report(1, 0.5))
    following.trial_ended("b000", "completed", best_macro_f1=0.5)
    following.close()
    following.close()

    lines = [line[9:] for line in out.getvalue().splitlines()]
    assert lines[0] == "b000 started    seed=7"
    assert lines[3:] == ["ended: 1 of 2 bags (1 completed), best 0.5000 b000"]


def test_console_names_the_first_of_equal_trials_the_best() -> None:
    following, out, _ = _log_of()

    for number in (0, 1):
        following.trial_started(_trial(number))
        following.epoch(f"t000{number}", _report(1, 0.5))
    following.close()

    assert "best 0.5000 t0000" in out.getvalue().splitlines()[-1]


def test_console_says_nothing_when_nothing_was_to_be_done() -> None:
    out = io.StringIO()

    SearchConsole(noun="bag", console=Console(file=out)).close()

    assert out.getvalue() == ""


def test_console_draws_running_and_best_trials_on_a_terminal() -> None:
    out, clock = io.StringIO(), Clock()
    console = Console(file=out, width=140, height=50, force_terminal=True, color_system=None)
    following = SearchConsole(n_trials=12, time_budget_s=1200, console=console, clock=clock)

    for number, score in enumerate((0.3, 0.5, 0.2, 0.4, 0.45, 0.1)):
        following.trial_started(_trial(number, **{"optimiser.lr": 0.01 * (number + 1)}))
        following.epoch(f"t000{number}", _report(2, score))
    clock.seconds = 300
    following.trial_ended("t0001", "stopped")
    running = _frame(following)
    following.close()

    assert running[0].startswith("5:00, about 6:00 left   1 of 12 trials (1 stopped)")
    last = out.getvalue().rpartition("\nrunning")
    head, best = last[0][-200:], last[2].partition("best so far")[2]
    assert "5:00   1 of 12 trials (1 stopped), best 0.5000 t0001, default 0.3000" in head
    rows = [line.split() for line in best.splitlines() if line.startswith("t0")]
    assert [row[0] for row in rows] == ["t0001", "t0004", "t0003", "t0000", "t0002"]
    assert rows[0] == ["t0001", "0.5000", "2/6", "stopped", "lr=0.02"]
    assert rows[1] == ["t0004", "0.4500", "2/6", "runs", "lr=0.05"]


def test_terminal_shows_nothing_where_nothing_was_to_be_done() -> None:
    out = io.StringIO()

    SearchConsole(noun="bag", console=Console(file=out, width=100, force_terminal=True, color_system=None)).close()

    assert out.getvalue().rpartition("\x1b[2K")[2].strip() == ""


def test_best_of_an_ended_trial_stands_alone_where_its_last_look_differs() -> None:
    out = io.StringIO()
    following = SearchConsole(console=Console(file=out, width=100, height=30, force_terminal=True, color_system=None))
    following.trial_started(_trial(0))
    following.epoch("t0000", {**_report(6, 0.5), "best/macro_f1": 0.45})
    following.trial_ended("t0000", "completed", best_macro_f1=0.45)

    frame = _frame(following)
    following.close()

    assert ["t0000", "0.4500", "6/6", "completed"] in [line.split() for line in frame]
    assert not any("0.5000" in line for line in frame)


def test_live_view_fits_the_screen_and_says_what_it_leaves_out() -> None:
    out, clock = io.StringIO(), Clock()
    console = Console(file=out, width=100, height=24, force_terminal=True, color_system=None)
    following = SearchConsole(n_trials=200, n_slots=64, console=console, clock=clock)

    for number in range(64):
        following.trial_started(_trial(number, **{"optimiser.lr": 0.01 * (number + 1)}))
        following.epoch(f"t{number:04}", _report(1, 0.01 * number))
    clock.seconds = 60
    for number in range(4):
        following.trial_ended(f"t{number:04}", "failed", error=f"out of luck {number}")
    frame = _frame(following)
    following.close()

    assert len(frame) <= 23 and max(map(len, frame)) <= 100
    assert frame[0].startswith("1:00, about 2:")
    assert any(line.startswith("running, 60 of 64 slots, 5") and line.endswith("of them not shown") for line in frame)
    assert [line.split()[1] for line in frame[-3:]] == ["t0001", "t0002", "t0003"]
    assert frame[-1].endswith("out of luck 3")


def test_time_that_is_left_is_guessed_from_the_trials_seen() -> None:
    out, clock = io.StringIO(), Clock()
    console = Console(file=out, width=100, height=30, force_terminal=True, color_system=None)
    following = SearchConsole(n_trials=5, n_slots=2, console=console, clock=clock)

    before = _frame(following)
    following.trial_started(_trial(0))
    clock.seconds = 100
    following.trial_ended("t0000", "completed", best_macro_f1=0.5)
    after = _frame(following)
    following.close()

    assert "left" not in before[0]
    assert after[0].startswith("1:40, about 3:20 left")


def _frame(following: SearchConsole) -> list[str]:
    """What a person sees at this moment, line by line."""
    out = io.StringIO()
    Console(file=out, width=100, height=24).print(following._render())
    return [line.rstrip() for line in out.getvalue().splitlines()]
