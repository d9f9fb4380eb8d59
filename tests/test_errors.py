"""The error message for an unknown name: the nearest names, a short list, or no names."""

from __future__ import annotations

from axiom_bench.errors import unknown


def test_unknown_name_suggests_the_nearest():
    assert str(unknown("layer", "covn", ["conv", "fc"])) == "There is no layer 'covn'; did you mean 'conv'?"
    names = ["grad_cam", "xgrad_cam", "hires_cam"]
    assert str(unknown("method", "xgradcam", names)).endswith("did you mean 'xgrad_cam' or 'grad_cam'?")


def test_unknown_name_without_a_near_match_lists_names():
    assert str(unknown("device", "xyz", ["cpu", "cuda"])) == "There is no device 'xyz'; there are: cpu, cuda."
    many = unknown("model", "???", [f"net{number:03d}" for number in range(400)])
    assert str(many) == f"There is no model '???'; there are 400: {', '.join(f'net{n:03d}' for n in range(12))}, ..."


def test_unknown_name_without_any_names():
    assert str(unknown("setting", "data.limit", [])) == "There is no setting 'data.limit'; none is defined here."


def test_long_names_are_truncated():
    assert len(str(unknown("method", [["x" * 300]] * 9, ["cam"]))) < 200
