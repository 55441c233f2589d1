"""Shares of a GPU by what was measured: they fill a card, follow each trial's config, and go by its order."""

import pickle
import time
from dataclasses import replace
from typing import Any

import pytest
from ray.exceptions import ActorDiedError, GetTimeoutError, RayError

from search.gpu_sharing import MOST_SHARING, GpuSharing, RayProbe, measure_sharing, planned_steps, share_gpus
from search.plan import SearchPlan
from search.resources import Resources, plan_resources
from spaces.config import TrialConfig
from trainables.data.table import DatasetInfo, FaceTable
from trainables.gpu_profile import GpuProfile
from trainables.memory import CONTEXT_BYTES, capped_fraction

GIB = 2**30
SMALL, LARGE = (TrialConfig.from_flat({"model.backbone": name}) for name in ("resnet10t", "resnet50"))
INFO = DatasetInfo(
    classes=("anger", "joy"), image_px=48, channels=3, mean=(0.5,) * 3, std=(0.25,) * 3, rows={"train": 1000},
    class_counts={"train": [600, 400]}, content_hash="", sources={}, notes=[],
)  # fmt: skip


def profile_of(peak_gib: float, *, card_gib: float = 80.0) -> GpuProfile:
    return GpuProfile(int(peak_gib * GIB), int(0.4 * GIB), int(card_gib * GIB), step_s=0.1)


def measure(peaks_gib: dict[str, float], *configs: TrialConfig, **options: Any) -> GpuSharing:
    """What is found where each backbone takes so much."""
    sharing = measure_sharing(
        configs, INFO, probe=lambda config: profile_of(peaks_gib[config.model.backbone]), say=lambda _: None, **options
    )
    assert sharing is not None
    return sharing


def plan(monkeypatch: pytest.MonkeyPatch, sharing: GpuSharing | None, **wanted: Any) -> Resources:
    there = wanted.pop("there", {"CPU": 16.0, "GPU": 2.0})
    monkeypatch.setattr("ray.cluster_resources", lambda: there)
    settings = {"cpus_per_trial": None, "gpus_per_trial": "auto", "max_concurrent": None, **wanted}
    return plan_resources(**settings, sharing=sharing)


@pytest.mark.parametrize(
    ("peak_gib", "share"), [(0.1, 0.0625), (10.0, 0.1666), (22.0, 0.3333), (30.0, 0.5), (60.0, 1.0), (200.0, 1.0)]
)
def test_share_holds_the_peak_with_some_room_and_fills_the_card(peak_gib: float, share: float) -> None:
    found = measure({"resnet50": peak_gib}, LARGE).share_of(LARGE.to_flat())

    assert found == share
    assert capped_fraction(found, card_bytes=80 * GIB) * 80 >= min(1.15 * peak_gib, 80)
    assert round(1 / found) <= MOST_SHARING
    assert round(1 / found) * found <= 1.0


def test_each_trial_asks_for_what_its_own_network_needs() -> None:
    sharing = measure({"resnet10t": 3.0, "resnet50": 30.0}, SMALL, LARGE)

    assert [sharing.share_of(config.to_flat()) for config in (SMALL, LARGE)] == [0.0625, 0.5]
    assert sharing.smallest == 0.0625


def test_settings_that_change_neither_memory_nor_time_are_measured_once() -> None:
    asked: list[TrialConfig] = []

    def probe(config: TrialConfig) -> GpuProfile:
        asked.append(config)
        return profile_of(4.0)

    other = SMALL.with_settings({"optimiser.lr": 1e-4, "loss.label_smoothing": 0.3, "train.seed": 5})
    measure_sharing([SMALL, other, SMALL], INFO, probe=probe, say=lambda _: None)

    assert len(asked) == 1


@pytest.mark.parametrize(("batch_size", "share"), [(32, 0.1666), (64, 0.1666), (100, 0.25), (128, 0.3333)], ids=str)
def test_batch_that_was_not_measured_is_judged_by_those_that_were(batch_size: int, share: float) -> None:
    sharing = measure({"resnet10t": 10.0}, SMALL.with_settings({"train.batch_size": 64}))

    assert sharing.share_of(SMALL.with_settings({"train.batch_size": batch_size}).to_flat()) == share


def test_network_that_was_not_measured_takes_as_much_as_any_that_was() -> None:
    sharing = measure({"resnet10t": 3.0, "resnet50": 30.0}, SMALL, LARGE)
    other = SMALL.with_settings({"model.backbone": "resnet18"})

    assert sharing.share_of(other.to_flat()) == 0.5


def test_measuring_goes_on_when_a_worker_is_lost_and_ends_when_its_time_is_up() -> None:
    said: list[str] = []

    def probe(config: TrialConfig) -> GpuProfile:
        if config is SMALL:
            raise ActorDiedError()
        return profile_of(30.0)

    sharing = measure_sharing(
        [SMALL, LARGE, LARGE.with_settings({"model.image_px": 64})], INFO, probe=probe, say=said.append, until_s=2.0,
        clock=iter([1.0, 1.5, 3.0]).__next__,
    )  # fmt: skip

    assert sharing is not None
    assert [each.demand.network.count("resnet50") for each in sharing.measured] == [1]
    assert said == [
        "GPU: 1 of 3, resnet10t, 64 faces at once: not measured, ActorDiedError",
        "GPU: 2 of 3, resnet50, 64 faces at once: 30.00 GiB, a share of 0.5",
        "GPU: no time to measure 1 of 3 networks",
    ]


def test_measuring_ends_when_no_gpu_becomes_free() -> None:
    said: list[str] = []

    def wait(config: TrialConfig) -> GpuProfile:
        raise GetTimeoutError()

    assert measure_sharing([SMALL, LARGE], INFO, probe=wait, say=said.append) is None
    assert said == ["GPU: none became free to measure 2 of 2 networks"]


def test_nothing_is_shared_when_nothing_could_be_measured() -> None:
    def fail(config: TrialConfig) -> GpuProfile:
        raise ActorDiedError()

    assert measure_sharing([SMALL], INFO, probe=fail, say=lambda _: None) is None


def test_trials_take_a_share_of_the_cores_as_large_as_of_the_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    sharing = measure({"resnet10t": 3.0, "resnet50": 30.0}, SMALL, LARGE)

    found = plan(monkeypatch, sharing)
    small, large, whole = found.of(SMALL.to_flat()), found.of(LARGE.to_flat()), found.whole()

    assert found.max_concurrent == 32
    assert (small.gpus, small.cpus, small.n_workers, small.gpu_share) == (0.0625, 0.5, 1, 0.0625)
    assert (large.gpus, large.cpus, large.n_workers, large.gpu_share) == (0.5, 4.0, 3, 0.5)
    assert (whole.gpus, whole.cpus, whole.max_concurrent, whole.sharing) == (1.0, 8.0, 2, None)


@pytest.mark.parametrize("k", range(1, MOST_SHARING + 1))
def test_trials_of_a_card_find_room_on_it_and_on_its_cores(monkeypatch: pytest.MonkeyPatch, k: int) -> None:
    needed_gib = 80 / k - CONTEXT_BYTES / GIB
    sharing = measure({"resnet10t": needed_gib / 1.15 * 0.999}, SMALL)

    found = plan(monkeypatch, sharing, there={"CPU": 7.0, "GPU": 1.0})

    assert found.max_concurrent == k
    assert k * found.gpus <= 1.0
    assert k * found.cpus <= 7.0


def test_cores_that_the_user_names_bound_how_many_trials_share_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    found = plan(monkeypatch, measure({"resnet10t": 3.0}, SMALL), cpus_per_trial=4.0)

    assert (found.cpus, found.max_concurrent) == (4.0, 4)
    assert found.of(SMALL.to_flat()).cpus == 4.0


def test_auto_is_the_default_when_nothing_was_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    cpu = {"CPU": 4.0}

    assert plan(monkeypatch, None, there=cpu) == plan(monkeypatch, None, there=cpu, gpus_per_trial=None)
    assert plan(monkeypatch, None) == plan(monkeypatch, None, gpus_per_trial=None)


def test_number_of_gpus_is_heeded_whatever_was_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    found = plan(monkeypatch, measure({"resnet10t": 3.0}, SMALL), gpus_per_trial=0.25)

    assert (found.gpus, found.sharing, found.gpu_share) == (0.25, None, 0.25)
    assert found.of(SMALL.to_flat()) == found.whole() == found


def test_request_follows_the_order_after_a_journey_to_another_process(monkeypatch: pytest.MonkeyPatch) -> None:
    found = plan(monkeypatch, measure({"resnet10t": 3.0, "resnet50": 30.0}, SMALL, LARGE))

    request = pickle.loads(pickle.dumps(found.request()))

    assert request({"order": {"settings": LARGE.to_flat()}}) == {"cpu": 4.0, "gpu": 0.5}
    assert replace(found, sharing=None).request() == {"cpu": 0.5, "gpu": 0.0625}


def test_steps_of_a_trial_are_those_of_its_subsample() -> None:
    config = SMALL.with_settings({"data.subsample_ratio": 0.5, "train.batch_size": 50, "train.epochs": 7})

    assert planned_steps(INFO)(config) == 70


@pytest.mark.ray
def test_nothing_is_measured_when_there_is_no_gpu(ray_local: None) -> None:
    assert share_gpus(SearchPlan(gpus_per_trial="auto"), [SMALL], INFO) is None


@pytest.mark.ray
def test_worker_measures_and_is_followed_by_another_when_it_is_lost(ray_local: None, face_table: FaceTable) -> None:
    config = TrialConfig.from_flat({"model.backbone": "test_efficientnet", "train.batch_size": 4, "model.image_px": 32})
    probe = RayProbe(face_table.info, n_steps=lambda _: 10, say=lambda _: None, until_s=time.time() + 600, gpus=0.0)

    profile = probe(config)
    broken = config.with_settings({"model.backbone": "no_such_network"})
    with pytest.raises(RayError, match="no_such_network"):
        probe(broken)
    again = probe(config)
    probe.close()

    assert profile.step_s > 0
    assert again == profile  # the first worker has kept it


@pytest.mark.ray
def test_probe_says_that_it_waits_for_a_gpu_and_gives_up(ray_local: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("search.gpu_sharing.SOON_S", 0.2)
    said: list[str] = []
    probe = RayProbe(INFO, n_steps=lambda _: 10, say=said.append, until_s=time.time() + 1.0)  # there is no GPU here

    with pytest.raises(GetTimeoutError):
        probe(SMALL)

    assert [line.startswith("GPU: waiting for one that is free, ") for line in said] == [True]
