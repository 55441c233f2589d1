"""The report of a search of 1,000 trials: how long a browser takes to show it, and how long it takes to write.

    python benchmarks/bench_report.py [--trials 1000] [--runs 7] [--plotly PYTHON]

A folder of trials that never ran, of all ends, eight epochs each, five parameters. Its page is opened in Chromium in a
window of 1,440 and of 360 pixels, each time in a context of its own, and timed by the browser itself: from the start of
the navigation until everything has loaded and a frame has been painted after that. The peer is what Optuna's users
have: the same study's figures by optuna.visualization (history, importances, parallel coordinates, slices, learning
curves, timeline), on one page with plotly in it, opened in the same turns. It lives in an environment of its own:
--plotly, else benchmarks/peers/.venv (pip install optuna plotly scikit-learn).

Needs Chromium and the extra `browser`.
"""

import statistics
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

from measure import Row, Target, bench_arguments, compare, medians_in_turn, not_measured, report, wall_seconds

HERE = Path(__file__).resolve().parent
sys.path.append(str(HERE.parent / "tests" / "tools"))

from chromium import find_chromium  # noqa: E402 (its folder is on the path from here on)
from written_search import write_search  # noqa: E402

QUICK = Target(value_at_most=2)
NAME = "the report of {:,} trials, {} px wide: until a browser has painted it"
SINCE_NAVIGATION = """() => new Promise(done => {
    const painted = () => requestAnimationFrame(() => requestAnimationFrame(() => done(performance.now() / 1000)));
    document.readyState === "complete" ? painted() : addEventListener("load", painted);
})"""


def main() -> int:
    """Measure and print."""
    arguments = bench_arguments(__doc__, runs=7, trials=1000, plotly="")
    with tempfile.TemporaryDirectory() as held:
        folder = write_search(Path(held) / "made", n_trials=arguments.trials)
        write_s = statistics.median(wall_seconds(lambda: write_page(folder)) for _ in range(3))
        page = folder.path / "report.html"
        rows = [*shown(page, peer_page(folder, arguments), arguments), written(page, write_s, arguments.trials)]
    return report(rows, arguments)


def write_page(folder: Any) -> None:
    """Read the folder and write the page, as the command does."""
    from search.report.job import write_report

    write_report(folder)


def written(page: Path, write_s: float, n_trials: int) -> Row:
    """What it took to write."""
    return compare(f"writing it ({page.stat().st_size / 1e6:.1f} MB, {n_trials:,} trials)", write_s, "s")


def peer_page(folder: Any, arguments: Any) -> Path | None:
    """The page of Optuna's figures; None where there is no environment for it."""
    python = Path(arguments.plotly or HERE / "peers" / ".venv" / "bin" / "python")
    if not python.exists():
        return None
    from search.study_file import OPTUNA_FILE, write_study

    write_study(study_of(folder), folder.path / OPTUNA_FILE, name="made")
    out = folder.path / "plotly.html"
    words = [str(python), str(HERE / "peers" / "optuna_page.py"), str(folder.path / OPTUNA_FILE), str(out)]
    done = subprocess.run(words, capture_output=True, text=True)
    if done.returncode:
        print(done.stderr, file=sys.stderr)
        return None
    return out


def study_of(folder: Any) -> Any:
    """The folder's trials as a study: our sampler is given their settings as points, and told their scores."""
    from search.sampler import StudySampler
    from spaces.loading import load_space

    records = folder.read_records()
    space = load_space(str(folder.path / "space.yaml"))
    sampler = StudySampler(replace(space, points=tuple(record.values for record in records[1:])))
    for record in records:
        sampler.ask(record.trial_id)
        for line in record.history:
            sampler.report(record.trial_id, line["epoch"], line["valid/macro_f1"])
        score, epoch = record.best_macro_f1, max(1, record.epochs)
        sampler.tell(record.trial_id, record.end, value=score, epoch=epoch)
    return sampler.study


def shown(page: Path, peer: Path | None, arguments: Any) -> list[Row]:
    """Both pages in a browser, at both widths, in turn."""
    names = {width: NAME.format(arguments.trials, width) for width in (1440, 360)}
    program = find_chromium()
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        program = None
    if not program:
        return [not_measured(name, "s", why="no Chromium here", target=QUICK) for name in names.values()]
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=program, args=["--no-sandbox"])
        pages = {"ours": page} | ({"peer": peer} if peer else {})
        works = {
            f"{side} {width}": (lambda file=file, width=width: seconds_to_show(browser, file, width=width))
            for side, file in pages.items()
            for width in names
        }
        seconds = medians_in_turn(works, runs=arguments.runs)
        browser.close()
    return [
        compare(
            name,
            seconds[f"ours {width}"],
            "s",
            peer="Optuna's figures by plotly on one page" if peer else "",
            peer_value=seconds.get(f"peer {width}"),
            target=QUICK,
        )
        for width, name in names.items()
    ]


def seconds_to_show(browser: Any, file: Path, *, width: int) -> float:
    """From the start of the navigation until a frame after everything has loaded."""
    context = browser.new_context(viewport={"width": width, "height": 900})
    tab = context.new_page()
    tab.goto(file.as_uri(), wait_until="commit")
    seconds = float(tab.evaluate(SINCE_NAVIGATION))
    context.close()
    return seconds


if __name__ == "__main__":
    sys.exit(main())
