"""What differs between two runs, by made-up records whose differences are known."""

import re

import numpy as np

from axiom_bench.cli.main import main
from axiom_bench.gate.two_runs import compare

from .conftest import of, shifted


def test_two_runs_of_the_same_values(usual, make_run, records, capsys):
    """Also in another order, and off by float32's rounding; the name of a run is no difference."""
    other = make_run(shifted(records, 1e-7).sample(frac=1, random_state=0), run="other")
    assert compare([usual, other])[0] == 0
    assert main(["compare", str(usual), str(other)]) == 0
    assert "the same settings, and the same 720 values" in (out := capsys.readouterr().out)
    assert out.startswith("accuracy of one: 40 of 40 (100 %)")


def test_values_statuses_settings_and_images(usual, make_run, records, capsys):
    moved = shifted(records, 0.25)
    first = moved.index[of(moved, "grad_cam", "drop") & (moved["model"] == "one")][:3]
    moved.loc[first, ["value", "status"]] = [np.nan, "zero_map"]
    changed = {"config": {"target": "predicted"}, "precision": "bf16", "methods": {"grad_cam": {}, "mine": {}}}
    other = make_run(moved, **changed, data={"scenes": {"ids": ["000"], "fingerprint": "cd"}})
    assert main(["compare", str(usual), str(other)]) == 1
    lines = capsys.readouterr().out.splitlines()
    expected = [
        *("precision: fp32 -> bf16", "target: label -> predicted"),
        *("methods only before: xgrad_cam, uniform", "methods only now: mine", "images of scenes: 40 -> 1, 1 in both"),
        *(f"accuracy of {model}: 40 of 40 (100 %) -> not known" for model in ("one", "two")),  # of predicted classes
    ]
    assert lines[:7] == expected
    for model, line in zip(("one", "two"), lines[7:9], strict=True):
        where = f"{model} at last on scenes: iou of xgrad_cam: 39 of 40 values by up to 0.250, mean "
        assert line.startswith(where)
        means = [float(text) for text in re.findall(r"0\.\d+", line.removeprefix(where))]
        values = records.loc[of(records, metric="iou") & (records["model"] == model), "value"].mean()
        np.testing.assert_allclose(means, [values, values + 0.25], atol=1e-3)
    assert lines[9:] == [
        "one at last on scenes: drop of grad_cam: 3 ok -> zero_map",
        f"{usual} -> {other}: 3 metrics of methods differ.",
    ]
