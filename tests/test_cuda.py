"""Tests that methods, metrics, loading and runs give the same values on a GPU as on the CPU, and
that a run continues if the GPU's memory is full.

Run them with `pytest -m cuda`. Without a GPU they are skipped. AXIOM_BENCH_TEST_DEVICE=cpu runs all
except the last two on the CPU, which only shows that they run. The tolerances are those that a
value keeps at any batch size.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import torch
from torch import Tensor

from axiom_bench import methods, metrics
from axiom_bench.cli.benchmark import run_jobs
from axiom_bench.columns import OK
from axiom_bench.cutting.passes import Limits, halve_until_it_fits
from axiom_bench.cutting.trace import Trace
from axiom_bench.data.embedded import Scenes
from axiom_bench.data.loading import batches
from axiom_bench.data.preprocessing import Preprocessing
from axiom_bench.evaluation.measurement import measure
from axiom_bench.explanation.explanation import Map
from axiom_bench.testing import METRIC_CASES, Case, accepted_cases

pytestmark = pytest.mark.cuda
OF_RANGE = 1e-5  # of a value's range, in float32
OF_LARGEST = 1e-12  # of the largest value, in float64
# Of objects, whose maps are near 0 in most cells. A sum on the edge of what counts as equal (1e-6
# of the largest) has another rank by rounding alone: one place of 16 is 1.5e-3 of the range. Seen
# once in 926 values.
BY_RANK = "single_deletion"
OF_OBJECTS = "scenes_repeated"
ONE_PLACE = 2e-3
SELDOM = 0.005
SHARES = ("conservation_error", "epsilon", "axiom_floor_conservation", "sensitivity_error_raw")
IMAGENET = Preprocessing(32, 24, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
RUN = (
    *("data.size=12", "data.batch_size=8", "shard_size=6"),
    *("runtime.repeats=0", "pictures.rows=0", "pictures.gallery=0"),
)
SCENES = ("model=scenes_vgg,scenes_resnet",)
NETWORKS = {
    "scenes": SCENES,
    "signals": ("model=signals_cnn", "data=signals"),
    "volumes": ("model=volumes_cnn", "data=volumes"),
    "objects": ("model=scenes_detector,scenes_segmenter", f"data={OF_OBJECTS}", "target=matched"),
}
KEY = ["model", "layer", "image_id", "target_class", "method", "metric"]
Run = Callable[..., pd.DataFrame]


@pytest.fixture(scope="module")
def device() -> torch.device:
    name = os.environ.get("AXIOM_BENCH_TEST_DEVICE", "cuda")
    if name == "cuda" and not torch.cuda.is_available():
        pytest.skip("no GPU that torch can use")
    return torch.device(name)


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Return a function (name, overrides) that runs and returns the records."""

    def records(name: str, overrides: Sequence[str]) -> pd.DataFrame:
        _, outcomes = run_jobs([*RUN, *overrides, f"run={name}", f"results={tmp_path}"])
        assert outcomes
        assert not any(outcome.failure for outcome in outcomes)
        paths = [path for outcome in outcomes for path in outcome.files["records"]]
        frames = [
            pd.read_parquet(tmp_path / "quick" / name / path) for path in dict.fromkeys(paths)
        ]
        return pd.concat(frames).sort_values(KEY, ignore_index=True)

    return records


def trace_on(case: Case, device: torch.device) -> Trace:
    trace = case.trace(case.model().to(device))
    return replace(trace, other_images=trace.other_images.to(trace.images.device))


def values_of(answer: Tensor | Map) -> Tensor:
    return (answer.raw if isinstance(answer, Map) else answer).cpu()


def assert_equal_in_float64(actual: Tensor, expected: Tensor) -> None:
    largest = expected[expected.isfinite()].abs().max() if expected.isfinite().any() else 0.0
    torch.testing.assert_close(
        actual, expected, rtol=0, atol=OF_LARGEST * float(largest), equal_nan=True
    )


def assert_equal_in_float32(actual: pd.DataFrame, expected: pd.DataFrame) -> None:
    """Check that values differ by at most OF_RANGE of the metric's range.

    An error that is a share of the score S changes by 1 / S if S is near 0, which the largest such
    error of the same image and class shows. An object's rank may change by one place.
    """
    assert actual[[*KEY, "status"]].equals(expected[[*KEY, "status"]])
    is_ok = expected["status"] == OK
    is_share = expected["metric"].str.startswith(SHARES)
    values_by_metric = expected.groupby("metric")["value"]
    spread = values_by_metric.transform("max") - values_by_metric.transform("min")
    shares = expected.assign(value=expected["value"].where(is_share & is_ok, 1).clip(lower=1))
    shares_by_image = shares.groupby(["model", "image_id", "target_class"])["value"]
    near_zero = shares_by_image.transform("max") * shares["value"]
    scale = spread.where(spread > 0, 1).mask(is_share, near_zero)
    moved = ((actual["value"] - expected["value"]).abs() / scale)[is_ok]
    ranked = moved[(expected["metric"] == BY_RANK) & (expected["data"] == OF_OBJECTS)]
    assert ranked.max() < ONE_PLACE or ranked.empty
    assert (ranked > OF_RANGE).mean() < SELDOM or ranked.empty
    worst = moved.drop(ranked.index).groupby(expected["metric"]).max().sort_values(ascending=False)
    assert worst.iloc[0] < OF_RANGE, worst.head(10).to_string()


@pytest.mark.parametrize("name", methods.names())
def test_methods(name: str, device: torch.device) -> None:
    method = methods.get(name)
    for case in accepted_cases(method).values():
        on_device = trace_on(case, device)
        answer = method(on_device)
        assert (answer.raw if isinstance(answer, Map) else answer).device.type == device.type
        assert_equal_in_float64(values_of(answer), values_of(method(case.trace())))
        assert_equal_in_float64(on_device.ablation_drops.cpu(), case.trace().ablation_drops)


@pytest.mark.parametrize("name", metrics.names())
def test_metrics(name: str, device: torch.device) -> None:
    metric = metrics.get(name)
    for case in METRIC_CASES.values():
        actual = measure(metric, case.explain(trace_on(case.case, device)), True)
        for value, (expected, statuses) in measure(metric, case.explanation(), True).items():
            assert_equal_in_float64(actual[value][0], expected)
            assert actual[value][1] == statuses


def test_images_have_the_same_bits(device: torch.device) -> None:
    """Random draws are then also the same, since an image's pixels seed them."""
    values = torch.arange(256, dtype=torch.uint8).view(1, 16, 16).expand(3, -1, -1)
    assert torch.equal(IMAGENET.normalised(values.to(device)).cpu(), IMAGENET.normalised(values))
    dataset = Scenes(size=20, seed=1)
    on_cpu = batches(dataset, range(20), IMAGENET, "each_label", 8, 0, device="cpu")
    on_device = batches(dataset, range(20), IMAGENET, "each_label", 8, 2, device=device)
    for plain, moved in zip(on_cpu, on_device, strict=True):
        assert moved.images.device.type == device.type
        assert torch.equal(moved.images.cpu(), plain.images)
        assert torch.equal(moved.targets.cpu(), plain.targets)


@pytest.mark.parametrize("network", NETWORKS.values(), ids=NETWORKS)
def test_a_run(network: tuple[str, ...], run: Run, device: torch.device) -> None:
    """Run the default methods and metrics in two, one and three dimensions, and on objects."""
    on_device = run(device.type, [*network, f"device={device.type}"])
    on_cpu = run("cpu", [*network, "device=cpu"])
    assert_equal_in_float32(on_device, on_cpu)


def test_a_run_has_the_same_bits_again(run: Run, device: torch.device) -> None:
    few = "method=[grad_cam,ablation_cam]"
    first = run("a", [*SCENES, f"device={device.type}", few])
    second = run("b", [*SCENES, f"device={device.type}", few])
    pd.testing.assert_frame_equal(first, second, check_exact=True)


@pytest.fixture
def little_memory(device: torch.device) -> Iterator[int]:
    """Limit the memory and return the bytes that can still be allocated."""
    if device.type != "cuda":
        pytest.skip("a limit of memory needs a GPU")
    torch.cuda.empty_cache()
    limit = 256 * 2**20
    total = torch.cuda.get_device_properties(device).total_memory
    torch.cuda.set_per_process_memory_fraction((torch.cuda.memory_reserved(device) + limit) / total)
    yield limit
    torch.cuda.set_per_process_memory_fraction(1.0)
    torch.cuda.empty_cache()


def test_memory_that_runs_out_is_halved(little_memory: int, device: torch.device) -> None:
    def compute(part: Tensor, rows: int) -> int:
        torch.empty(rows * little_memory // 8, dtype=torch.uint8, device=device)
        return len(part)

    limits = Limits(2**30)
    assert sum(halve_until_it_fits(torch.zeros(32), 32, limits, compute)) == 32
    assert limits.rows in (4, 8)


def test_a_run_without_enough_memory_goes_on_with_less(
    run: Run, little_memory: int, device: torch.device
) -> None:
    few = "method=[grad_cam,ablation_cam]"
    large = (*SCENES, "data.size=256", "data.batch_size=256", "shard_size=256", few)
    assert_equal_in_float32(
        run("device", ["device=cuda", *large]), run("cpu", ["device=cpu", *large])
    )
