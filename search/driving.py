"""What Ray Tune drives for a search: workers of a kind, and who orders, judges and notes what they do."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

from ray import tune

from search.callbacks import RecordingCallback
from search.disk_watch import DiskWatch
from search.folder import SearchFolder, TrialRecord
from search.interrupts import gentle_signals
from search.lost_workers import MOST_LOST, LostWorkers
from search.packs.callbacks import PackCallback
from search.packs.runs import PackRuns
from search.packs.searcher import Pack, PackSearcher
from search.plan import SearchPlan
from search.prelaunch import iter_extremes
from search.ranking import usable
from search.recorder import Recorder
from search.resources import Resources
from search.scheduler import StratifiedHalving, constant_macro_f1
from search.searcher import SpaceSearcher
from search.state import SearchState
from search.strata import epoch_faces, named_ratios
from search.study_journal import METRIC, StudyJournal
from search.worker_keeper import WorkerKeeper
from spaces.space import SearchSpace
from trainables.data.table import FaceTable
from trainables.environment import read_environment
from trainables.heads.pack_run import PackedTrial, PackOrder
from trainables.run import TrialOrder
from trainables.trial import PackTrial, Trial


class Work(NamedTuple):
    """What trials work on, and with."""

    folder: SearchFolder
    table: FaceTable
    resources: Resources
    recorder: Recorder
    ends_s: float | None
    silent_s: float
    clock_lead_s: float
    say: Callable[[str], None]


class Drive(NamedTuple):
    """What Ray Tune drives: workers of a kind, and who orders, judges and notes what they do."""

    trainable: type[tune.Trainable]
    searcher: SpaceSearcher
    callback: RecordingCallback
    scheduler: StratifiedHalving | None = None


def drive_trials(
    state: SearchState,
    journal: StudyJournal,
    work: Work,
    *,
    worker: type[Trial],
    scheduler: StratifiedHalving | None,
    bounds: dict[str, Any],
) -> Drive:
    """A worker takes one trial at a time."""
    searcher = SpaceSearcher(state, journal, order=lambda record, ends_s: _order(record, work, ends_s), **bounds)
    callback = RecordingCallback(
        work.recorder,
        searcher.records,
        halt=searcher.halt,
        begin_again=searcher.begin_again,
        fail=searcher.fail,
        spared=scheduler.spared if scheduler else None,
        **_care(work, lambda trial: searcher.records[trial.trial_id]),
    )
    return Drive(worker, searcher, callback, scheduler)


def drive_packs(
    state: SearchState,
    journal: StudyJournal,
    work: Work,
    *,
    runs: PackRuns,
    bounds: dict[str, Any],
    keep_weights: int,
) -> Drive:
    """A worker takes a pack of heads at a time."""

    def order(pack: Pack, ends_s: float | None) -> dict[str, Any]:
        kept = usable(list(work.recorder.records.values()))[keep_weights - 1 : keep_weights] if keep_weights else []
        return PackOrder(
            pack_id=pack.pack_id,
            trials=tuple(
                PackedTrial(record.trial_id, record.config, str(work.folder.trial_dir(record.trial_id)))
                for record in pack.records
            ),
            table=work.table.origin,
            content_hash=work.table.info.content_hash,
            environment=dict(read_environment()),
            device=work.resources.device,
            n_threads=work.resources.n_threads,
            keep_weights=keep_weights,
            weights_above=kept[0].best_macro_f1 or -1.0 if kept else -1.0,
            keep_always=("t0000",),
            deadline_s=ends_s,
            gpu_share=work.resources.gpu_share,
            silent_s=work.silent_s,
            clock_lead_s=work.clock_lead_s,
        ).to_dict()

    runs.keep_lost_trials(state.records)
    searcher = PackSearcher(state, journal, order=order, last_pack=runs.last_pack, **bounds)
    care = _care(work, lambda pack: searcher.packs[pack.trial_id].records[0])
    callback = PackCallback(
        work.recorder,
        searcher.packs,
        runs=runs,
        halt=searcher.halt,
        begin_again=searcher.begin_again,
        fail=searcher.fail,
        **care,
    )
    return Drive(PackTrial, searcher, callback)


def run_drive(drive: Drive, folder: SearchFolder, *, resources: Resources, n_launches: int) -> None:
    """Let Ray Tune work until the searcher has no more, or is told to halt.

    Args:
        drive: what it drives.
        folder: of the search, where Tune has a folder of its own meanwhile.
        resources: of one trial.
        n_launches: of this search so far.

    Raises:
        Exception: what the callback met, such as a full disk.
    """
    folder.remove_tune_dirs()
    trainable: Any = tune.with_resources(drive.trainable, resources.request())
    tuner = tune.Tuner(
        trainable,
        tune_config=tune.TuneConfig(
            search_alg=drive.searcher,
            scheduler=drive.scheduler,
            num_samples=-1,  # the searcher says when there are enough
            max_concurrent_trials=resources.max_concurrent,
            reuse_actors=True,
        ),
        run_config=tune.RunConfig(
            name=f"tune-{n_launches}",  # the workers of a killed driver may still write into theirs
            storage_path=str(folder.path),
            callbacks=[drive.callback],
            checkpoint_config=tune.CheckpointConfig(
                checkpoint_frequency=0, checkpoint_at_end=False
            ),  # a trial keeps its own
            failure_config=tune.FailureConfig(max_failures=MOST_LOST + 1),
            verbose=0,
        ),
    )
    with gentle_signals():
        tuner.fit()
    folder.remove_tune_dirs()
    if drive.callback.trouble:
        raise drive.callback.trouble


def _order(record: TrialRecord, work: Work, deadline_s: float | None) -> dict[str, Any]:
    resources = work.resources.of(record.config)
    return TrialOrder(
        trial_id=record.trial_id,
        settings=record.config,
        table=work.table.origin,
        content_hash=work.table.info.content_hash,
        environment=dict(read_environment()),
        folder=str(work.folder.trial_dir(record.trial_id)),
        device=resources.device,
        n_threads=resources.n_threads,
        n_workers=resources.n_workers,
        deadline_s=deadline_s,
        search_ends_s=work.ends_s,
        gpu_share=resources.gpu_share,
        silent_s=work.silent_s,
        n_told=record.epochs,
        clock_lead_s=work.clock_lead_s,
    ).to_dict()


def _care(work: Work, record_of: Callable[[tune.experiment.Trial], TrialRecord]) -> dict[str, Any]:
    """Who counts the workers that are lost and looks after the others; the words of a callback."""
    losses = LostWorkers()
    keeper = WorkerKeeper(
        losses, lambda trial: work.folder.trial_dir(record_of(trial).trial_id), silent_s=work.silent_s
    )
    return {"losses": losses, "keeper": keeper, "disk": DiskWatch(work.folder), "say": work.say}


def build_scheduler(
    space: SearchSpace, table: FaceTable, plan: SearchPlan, records: Sequence[TrialRecord]
) -> StratifiedHalving | None:
    """ASHA with earlier trials on its rungs; none where all epochs are granted anyway."""
    if _most_epochs(space) <= plan.grace_epochs:
        return None
    counts = table.info.class_counts
    scheduler = StratifiedHalving(
        metric=METRIC,
        epoch_faces=partial(epoch_faces, class_counts=counts["train"], ratios=named_ratios(space)),
        grace_epochs=plan.grace_epochs,
        reduction_factor=plan.reduction_factor,
        min_rung_trials=plan.min_rung_trials,
        protected=frozenset({"t0000"}),
        floor=constant_macro_f1(counts["valid"]),
        reprieve_share=plan.reprieve_share,
        seed=plan.seed,
    )
    for record in records:
        scheduler.remember(record)
    return scheduler


def _most_epochs(space: SearchSpace) -> int:
    return max(config.train.epochs for config in iter_extremes(space))
