"""Workers that hang, that die again and again, that stand on a machine about to go; and trials that all fail alike."""

import os
import re
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from books import GOOD_ENDS, read_records, wrongs_in_books
from clusters import RAY, Cluster, Node
from measure import Row, Target, compare
from processes import NODE_MARK, marked, title_of, wait_until
from searches import EPOCH, Command, Place

from trainables.pulse import read_pulse

pytestmark = pytest.mark.faults

HANG_S = 20
MOVED_S = 30.0
NODE_ID = re.compile(r"--node[-_]id[= ]([0-9a-f]{56})")


def worker_of(place: Place, name: str, trial_id: str) -> int | None:
    """The process that works on a trial, by its own word."""
    pid = read_pulse(place.storage / name / "trials" / trial_id).get("pid")
    return int(pid) if pid is not None else None


def record_of(place: Place, name: str, trial_id: str) -> dict[str, Any]:
    return next(record for record in read_records(place.storage / name) if record["trial_id"] == trial_id)


def test_trial_whose_worker_hangs_goes_on_in_another(place: Place, figures: Callable[[Row], None]) -> None:
    command = place.search("hung", "--hang-after", f"{HANG_S}s", trials=4, epochs=12)
    command.wait_for("t0000 epoch 2")
    pid = worker_of(place, "hung", "t0000")
    assert pid is not None

    os.kill(pid, signal.SIGSTOP)
    stopped_s = time.monotonic()
    command.wait_for(f"t0000 lost its worker: it gave no sign of life for {HANG_S} s")
    noticed_s = time.monotonic() - stopped_s
    text = command.finish()

    record = record_of(place, "hung", "t0000")
    figures(compare(f"a worker that hangs, ended after {HANG_S} s without a sign of life", noticed_s, "s"))
    assert wrongs_in_books(place.storage / "hung", n_trials=4) == []
    assert (record["end"], record["n_lost"], record["n_preempted"]) == ("completed", 1, 0)
    assert [epoch["epoch"] for epoch in record["history"]] == list(range(1, 13))
    assert "Traceback" not in text


def test_trial_that_loses_four_workers_in_a_row_has_failed_and_the_others_go_on(place: Place) -> None:
    command = place.search("cursed", trials=3, epochs=12)
    command.wait_for(EPOCH)
    killed: set[int] = set()
    while len(killed) < 4:
        pid = new_worker(place, command, killed)
        os.kill(pid, signal.SIGKILL)
        killed.add(pid)
    text = command.finish()

    record = record_of(place, "cursed", "t0000")
    others = [other for other in read_records(place.storage / "cursed") if other["trial_id"] != "t0000"]
    assert (record["end"], record["n_lost"]) == ("failed", 4)
    assert record["error"].startswith("worker was lost 4 times in a row: its process was killed or crashed")
    assert text.count("t0000 lost its worker") == 3
    assert all(other["end"] in GOOD_ENDS for other in others)
    assert wrongs_in_books(place.storage / "cursed", n_trials=3, ends=(*GOOD_ENDS, "failed")) == []


def new_worker(place: Place, command: Command, known: set[int]) -> int:
    """The process that has taken up trial 0 since."""
    found: list[int] = []

    def is_there() -> bool:
        assert command.is_running, command.text[-3000:]
        pid = worker_of(place, "cursed", "t0000")
        found.extend([pid] if pid is not None and pid not in known else [])
        return bool(found)

    wait_until(is_there, timeout_s=120.0, what="another worker takes up t0000")
    return found[0]


def test_trials_leave_a_machine_that_is_about_to_be_taken_away(place: Place, figures: Callable[[Row], None]) -> None:
    cluster = Cluster(place).start(cpus=[1, 1])
    command = place.search("drained", "--address", cluster.address, trials=3, epochs=16)
    command.wait_for(EPOCH)
    drained = cluster.nodes[1]
    wait_until(lambda: drained.n_training, timeout_s=300.0, what="a trial runs on the node")

    noticed_s = time.monotonic()
    drain(cluster, drained)
    command.wait_for("lost its worker: its machine is about to be taken away")
    left_s = time.monotonic() - noticed_s
    command.finish()

    records = read_records(place.storage / "drained")
    figures(compare("from a spot machine's notice until its trial has left it", left_s, "s",
                    target=Target(value_at_most=MOVED_S)))  # fmt: skip
    assert left_s <= MOVED_S
    assert sum(record["n_preempted"] for record in records) == 1
    assert sum(record["n_lost"] for record in records) == 0
    assert wrongs_in_books(place.storage / "drained", n_trials=3) == []


def drain(cluster: Cluster, node: Node) -> None:
    """Tell Ray that a node's machine goes away in a minute, as a cloud's notice does."""
    titles = " ".join(title_of(process) for process in marked(node.mark, name=NODE_MARK))
    found = NODE_ID.search(titles)
    assert found is not None, titles
    words = ["--reason", "DRAIN_NODE_REASON_PREEMPTION", "--reason-message", "spot"]
    subprocess.run(
        [str(RAY), "drain-node", "--address", cluster.address, "--node-id", found[1], *words,
         "--deadline-remaining-seconds", "60"],
        env=cluster.place.environment,
        check=True,
    )  # fmt: skip


def test_search_whose_trials_fail_all_alike_stops_and_says_why_once(place: Place) -> None:
    weights = save_weights(place.folder / "start.safetensors")
    space = place.write_space(2)
    space.write_text(space.read_text().replace("weights: none", f"weights: {weights}"))
    words = ("search", str(space), "--data", str(place.table), "--name", "hopeless", "--trials", "40")
    command = place.start(*words, "--max-concurrent", "1")
    command.wait_for(EPOCH)

    weights.unlink()
    code = command.wait()

    records = read_records(place.storage / "hopeless")
    failed = [record for record in records if record["end"] == "failed"]
    assert code == 1
    assert 8 <= len(failed) <= 9
    last = command.text.strip().splitlines()[-1]
    assert last.startswith("affectune: trials must not fail one like the other, got 8 in a row with: ")
    assert str(weights) in last and "affectune resume hopeless" in last


def save_weights(file: Path) -> Path:
    """Of the tiny network, as if somebody had trained it."""
    import timm
    from safetensors.torch import save_file

    save_file(timm.create_model("test_efficientnet", pretrained=False).state_dict(), file)
    return file
