"""Tests of maps read from files: they are found by the image's id, measured like a method's own
maps, and never used as an explanation of a changed image.
"""

from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file

import axiom_bench as ab
from axiom_bench import methods, metrics
from axiom_bench.errors import BenchError, NoMap
from axiom_bench.evaluation import plugins
from axiom_bench.explanation.explanation import Explanation
from axiom_bench.methods.from_maps import from_maps
from axiom_bench.testing import CASES
from tests.metrics.build import with_fewer

CASE = CASES["dense"]  # three images, of the classes 0, 1 and 2
IDS = ("birds/1.jpg", "birds/2.jpg", "cats/1")
DRAWN = np.random.default_rng(0).normal(size=(4, 3, 5)).astype(np.float32)
ARRAYS = {IDS[0]: DRAWN[0], f"{IDS[1]}@1": DRAWN[1], IDS[1]: DRAWN[2], f"{IDS[2]}@0": DRAWN[3]}
EXPLAIN_AGAIN = [
    name
    for name in metrics.names()
    if "other_maps" in plugins.load("metric", name).spec.computed_from
]


def write_maps(folder: Path, form: str) -> str:
    """Write the arrays in one of the file formats and return the path."""
    if form == "one .safetensors":
        save_file(ARRAYS, folder / "maps.safetensors")
        return str(folder / "maps.safetensors")
    if form == "one .npz":
        np.savez_compressed(folder / "maps.npz", **ARRAYS)
        return str(folder / "maps.npz")
    for name, array in ARRAYS.items():
        (folder / name).parent.mkdir(exist_ok=True)
        if form == ".npy":
            np.save(folder / f"{name}.npy", array)
        else:
            np.savez(folder / f"{name}.npz", map=array)
    return str(folder)


@pytest.mark.parametrize("form", [".npy", ".npz", "one .npz", "one .safetensors"])
def test_the_map_of_the_image_and_class_in_each_form(form, tmp_path):
    path = write_maps(tmp_path, form)
    trace = replace(CASE.trace(), image_ids=IDS)
    answer = from_maps(trace, path)
    assert answer.missing.tolist() == [False, False, True]
    assert torch.equal(answer.raw[:2], torch.from_numpy(DRAWN[:2]).double())
    assert torch.equal(from_maps(trace[1:2], path).raw, answer.raw[1:2])
    expected = ab.heatmap(torch.from_numpy(DRAWN[:2]).double(), CASE.size)
    assert torch.equal(Explanation.of(trace, answer).heatmap[:2], expected)


@pytest.mark.parametrize(
    ("array", "sentence"),
    [
        (np.ones((3, 3)), r"'cats/3' in .* is \(3, 3\), and others are \(3, 5\)"),
        (np.ones((1, 3, 5)), r"'cats/3' in .* is \(1, 3, 5\) of float64, not \(h, w\)"),
        (np.ones((3, 5), dtype=complex), "of complex128"),
        (b"no array", r"'cats/3' in .* can't be read"),
    ],
)
def test_a_wrong_file_is_one_sentence_whatever_the_batch(array, sentence, tmp_path):
    path = write_maps(tmp_path, ".npy")
    trace = replace(CASE.trace(CASE.model()), image_ids=IDS)
    file = tmp_path / "cats" / "3.npy"
    if isinstance(array, bytes):
        file.write_bytes(array)
    else:
        np.save(file, array)
    for rows in (trace, trace[:1]):
        with pytest.raises(BenchError, match=sentence):
            from_maps(rows, path)


def test_nothing_to_read_is_one_sentence(tmp_path):
    trace = replace(CASE.trace(CASE.model()), image_ids=IDS)
    with pytest.raises(BenchError, match="There are no maps in"):
        from_maps(trace, str(tmp_path))
    with pytest.raises(BenchError, match="this trace has none"):
        from_maps(CASE.trace(), write_maps(tmp_path, ".npy"))


def statuses_by_metric(
    path: str, chosen: list, annotations: tuple[ab.Annotation, ...] | None = None
) -> dict[str, list[str]]:
    """Return the statuses of the three images by metric."""
    batch = ab.Batch(images=CASE.images(), image_ids=IDS, targets=torch.arange(3))
    if annotations is not None:
        batch = replace(batch, annotations=annotations)
    reader = plugins.with_params("method", "from_maps", {"path": path})
    table = ab.evaluate(CASE.model(), CASE.layer, [batch], methods=[reader], metrics=chosen)
    assert (table["value"].isna() == (table["status"] != "ok")).all()
    return table.groupby("metric")["status"].agg(list).to_dict()


def again_at_once(explanation: Explanation) -> torch.Tensor:
    """Return a user's own metric of the explanation of changed images."""
    changed = explanation.again(images=explanation.images + 1)
    return (changed.heatmap > 0.5).flatten(1).sum(1)


def test_what_explains_again_has_a_status_and_no_value(tmp_path):
    path = write_maps(tmp_path, ".npy")
    explain_again = map(with_fewer, EXPLAIN_AGAIN)
    chosen = [*explain_again, again_at_once, "gini", "confidence_drop", "sensitivity_error"]

    statuses = statuses_by_metric(path, chosen)

    assert statuses.pop("gini") == ["ok", "ok", "no_map"]
    assert statuses.pop("confidence_drop") == ["ok", "ok", "no_map"]
    assert statuses.pop("sensitivity_error") == ["no_contributions", "no_contributions", "no_map"]
    without_map = {name for name in statuses if set(statuses[name]) == {"no_map"}}
    assert without_map >= {
        "again_at_once",
        "random_logit",
        "max_sensitivity",
        "model_parameter_randomisation",
        "adcc",
    }
    assert not [name for name in statuses if "ok" in statuses[name]]

    batch = (CASE.images(), None)
    others = ab.evaluate(CASE.model(), CASE.layer, [batch], ["xgrad_cam"], [again_at_once])
    assert set(others["status"]) == {"ok"}


def test_a_metric_by_itself_says_why(tmp_path):
    trace = replace(CASE.trace(), image_ids=IDS)
    path = write_maps(tmp_path, ".npy")
    method = plugins.with_params("method", "from_maps", {"path": "x"})
    method = replace(method, call=partial(from_maps, path=path))
    explanation = Explanation.of(trace, method(trace), method=method)
    with pytest.raises(NoMap, match="changed"):
        metrics.get("random_logit")(explanation)


def test_nan_and_no_map_are_told_apart_also_where_a_map_may_be_anything(tmp_path):
    path = write_maps(tmp_path, ".npy")
    np.save(tmp_path / f"{IDS[0]}.npy", np.full((3, 5), np.nan))
    box = torch.tensor([[1.0, 1, 5, 5]])
    annotations = tuple(ab.Annotation(torch.tensor([label]), box) for label in range(3))
    statuses = statuses_by_metric(path, ["gini", "gt_known_loc"], annotations)
    assert statuses == {
        "gini": ["not_finite", "ok", "no_map"],
        "gt_known_loc": ["ok", "ok", "no_map"],
    }


def test_it_is_chosen_by_name_alone():
    assert "from_maps" in plugins.names("method")
    assert "from_maps" not in methods.names()
