"""The score that is announced against the score that comes: 20 searches on generated faces, and FER2013's valid file.

    python benchmarks/bench_honesty.py [--seeds 20] [--trials 8] [--data FOLDER] [--weights FILE]

1. For each seed a face table of its own and trials of the preset `demo`, each with its best epoch among five. The valid
   people are cut in four parts. On one part the final job's choice is made (epochs, members, weights) and its score
   announced; the other three, sealed until then, judge. Each part has its turn, so that it cancels out which of them is
   the easier one. Announced is the estimate; the peer is the naive announcement, the score that the ensemble was chosen
   by. What counts is the mean difference from the sealed score, and how often the interval holds that score: of 20
   intervals of 90 %, 16 or more do in 96 of 100 runs.
2. FER2013's valid file (`--data`, six classes): 64 heads on embeddings of an ImageNet network (`--weights`), trained on
   the training file once. Cut in halves, by face, since people are not known. Not run where the files are not there.

Seen on two cores: a search takes 20 s, nine tenths of it training.
"""

import multiprocessing
import os
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from measure import Row, Target, bench_arguments, compare, not_measured, report

if TYPE_CHECKING:
    import numpy.typing as npt

    from search.ensemble import Library

N_TRAIN, N_VALID, IMAGE_PX = 800, 1200, 32
N_PARTS = 4
N_HEADS = 64
MAX_MEMBERS = 8
CLASSES = ("anger", "disgust", "fear", "happiness", "sadness", "surprise")
SHARED = Path(__file__).resolve().parents[2] / "shared"


@dataclass(frozen=True)
class Announced:
    """One announcement and what came: macro-F1."""

    naive: float
    estimate: float
    low: float
    high: float
    test: float


def main() -> int:
    """Measure and print."""
    arguments = bench_arguments(
        __doc__,
        runs=1,
        seeds=20,
        trials=8,
        data=str(SHARED / "data" / "fer2013"),
        weights=str(SHARED / "weights" / "tf_efficientnet_lite0.imagenet.safetensors"),
    )
    context = multiprocessing.get_context("spawn")
    workers = len(os.sched_getaffinity(0))
    with ProcessPoolExecutor(workers, mp_context=context, initializer=settle_worker) as pool:
        searched = list(pool.map(partial(search_once, n_trials=arguments.trials), range(arguments.seeds)))
        rows = rows_of(searched, f"generated faces, {arguments.trials} trials")
        rows += halves_rows(Path(arguments.data), Path(arguments.weights), n_seeds=arguments.seeds, pool=pool)
    return report(rows, arguments)


def settle_worker() -> None:
    """One thread a process: there is a process a core."""
    os.environ["OMP_NUM_THREADS"] = "1"
    import torch

    torch.set_num_threads(1)


def search_once(seed: int, *, n_trials: int) -> list[Announced]:
    """A table, trials, and a choice on each part of the valid people."""
    from search.candidate_library import make_library
    from trainables.data.synth import write_synth_table

    with tempfile.TemporaryDirectory() as name:
        table = write_synth_table(
            Path(name) / "faces", n_train=N_TRAIN, n_valid=N_VALID, n_test=0, image_px=IMAGE_PX, seed=seed
        )
        library = make_library(train_trials(Path(name), table, n_trials=n_trials, seed=seed), n_configs=3)
    return announce_parts(library, N_PARTS, seed)


def announce_parts(library: "Library", n_parts: int, seed: int) -> list[Announced]:
    """Choose and announce on each part of the people, judge on the others."""
    units = library.kinds[0].units
    part = (np.random.default_rng(seed).permutation(int(units.max()) + 1) % n_parts)[units]
    return [announce(library, part == number, seed) for number in range(n_parts)]


def announce(library: "Library", chooses: "npt.NDArray[np.bool_]", seed: int) -> Announced:
    """Choose and announce on some faces, as the final job does on all valid ones, and ask the others."""
    from search.comparison import choose_ensemble
    from search.ensemble import macro_f1_of_probs, soft_vote

    variants = tuple(None if own is None else own[:, chooses] for own in library.variants)
    known = replace(library.inside([chooses]), variants=variants)
    chosen = choose_ensemble(known, max_members=MAX_MEMBERS, seed=seed)
    score = chosen.scores["ensemble"]
    sealed = library.answers_chosen_by(chooses)[:, ~chooses]
    vote = soft_vote(sealed, chosen.rows["ensemble"])
    test = float(macro_f1_of_probs(vote[None], library.kinds[0].faces.labels[~chooses])[0])
    return Announced(score["valid"], score["estimate"], *score["estimate_interval"], test)


def train_trials(folder: Path, table: Any, *, n_trials: int, seed: int) -> list[Any]:
    """Candidates from the preset `demo`: its first points, then others at random."""
    from search.candidates import load_candidate
    from search.sampler import StudySampler
    from search.state import new_record
    from spaces.loading import load_space
    from trainables.run import TrialOrder, TrialRun

    sampler = StudySampler(load_space("demo"), seed=seed)
    found = []
    for number in range(n_trials):
        trial_id = f"t{number:04d}"
        sampler.ask(trial_id)
        settings = new_record(sampler, trial_id).config
        run = TrialRun(TrialOrder(trial_id, settings, str(table.path), str(folder / trial_id)))
        report: dict[str, Any] = {"end": ""}
        while not report["end"]:
            report = run.step()
        run.release()
        candidate = load_candidate(trial_id, folder / trial_id, settings, is_complete=report["end"] == "completed")
        found += [] if candidate is None else [candidate]
    return found


def rows_of(found: Sequence[Sequence[Announced]], what: str) -> list[Row]:
    """Mean differences over all parts; and how often the interval of a seed's first part held."""
    every = [one for of_seed in found for one in of_seed]
    naive = float(np.mean([one.naive - one.test for one in every]))
    honest = float(np.mean([one.estimate - one.test for one in every]))
    n_held = sum(one.low <= one.test <= one.high for one, *_ in found)
    return [
        compare(
            f"announced minus sealed score, {len(found)} seeds, {what}", abs(honest), "macro-F1",
            peer="the score it was chosen by", peer_value=abs(naive),
            target=Target(value_at_most=0.01, ratio_at_least=2),
        ),
        compare(
            f"90 % intervals that hold the sealed score, {what}", n_held, f"of {len(found)}",
            target=Target(value_at_least=round(0.8 * len(found))),
        ),
    ]  # fmt: skip


def halves_rows(data: Path, weights: Path, *, n_seeds: int, pool: ProcessPoolExecutor) -> list[Row]:
    """FER2013's valid faces, halves of them."""
    what = "FER2013 halves, 64 heads"
    if not (data / "train.parquet").is_file() or not weights.is_file():
        return [not_measured(f"announced minus sealed score, {what}", "macro-F1", why="no FER2013 here")]
    with tempfile.TemporaryDirectory() as name:
        scores = Path(name) / "scores.npz"
        np.savez(scores, **dict(zip(("probs", "labels"), head_scores(Path(name), data, weights), strict=True)))
        return rows_of(list(pool.map(partial(announce_halves, scores), range(n_seeds))), what)


def head_scores(folder: Path, data: Path, weights: Path) -> tuple[Any, Any]:
    """Probabilities [heads, faces, classes] and labels of the valid faces."""
    from search.sampler import StudySampler
    from search.state import new_record
    from spaces.loading import load_space
    from trainables.data.ingest import IngestRequest, ingest
    from trainables.heads.pack_run import PackedTrial, PackOrder, PackRun
    from trainables.scores import load_scores
    from trainables.trainer import SCORES_FILE

    os.environ["AFFECTUNE_CACHE"] = str(folder / "cache")
    table = ingest(
        IngestRequest(
            train=data / "train.parquet", valid=data / "valid.parquet", out=folder / "faces", classes=list(CLASSES)
        )
    )
    sampler = StudySampler(load_space("heads").fix({"model.weights": str(weights)}), seed=0)
    trials = []
    for number in range(N_HEADS):
        trial_id = f"t{number:04d}"
        sampler.ask(trial_id)
        trials.append(PackedTrial(trial_id, new_record(sampler, trial_id).config, str(folder / trial_id)))
    run = PackRun(PackOrder("pack", tuple(trials), str(table.path)))
    while not run.step()["end"]:
        pass
    run.release()
    files = [Path(trial.folder) / SCORES_FILE for trial in trials]
    loaded = [load_scores(file) for file in files if file.is_file()]
    return np.stack([scores.probs for scores in loaded]), loaded[0].labels


def announce_halves(scores: Path, seed: int) -> list[Announced]:
    """Announcements from stored scores, faces being their own people."""
    from search.ensemble import Library, make_kind, plain_traits

    with np.load(scores) as stored:
        kind = make_kind(stored["probs"], stored["labels"], None)
    return announce_parts(Library((kind,), plain_traits(len(kind.faces.probs))), 2, seed)


if __name__ == "__main__":
    sys.exit(main())
