"""scripts/write_which_metric.py on a run with known values: which kinds a metric orders, and the lead."""

import sys

import write_which_metric

METHODS = {
    "truth": {"title": "Truth"},
    "noise_50": {"spoiling": "noise", "degree": 0.5, "unspoiled": "truth"},
    "noise_100": {"spoiling": "noise", "degree": 1.0, "unspoiled": "truth"},
    "blur_100": {"spoiling": "blur", "degree": 1.0, "unspoiled": "truth"},
    **{name: {"title": name} for name in "abcdef"},
}
VALUES = {"truth": 10, "noise_50": 8, "noise_100": 6, "blur_100": 6, **dict(zip("abcdef", range(4, 10), strict=True))}
# confidence_drop orders both kinds, box_iou, which the run leads with, noise alone.
MEANS = {"confidence_drop": (VALUES, 0.1), "box_iou": ({**VALUES, "blur_100": 12}, 0.1)}
IMAGES = 110


def test_page(make_judged, monkeypatch, tmp_path):
    run, output = make_judged(IMAGES, METHODS, MEANS), tmp_path / "which-metric.md"
    monkeypatch.setattr(sys, "argv", ["write_which_metric.py", "--truth", str(run), "--output", str(output)])
    write_which_metric.main()
    text = output.read_text()
    lines = [line.removeprefix("| ").removesuffix(" |").split(" | ") for line in text.split("\n")]
    cells = {line[0]: line[1:] for line in lines if len(line) == 7}
    everything, half = cells["Confidence drop ↑"], cells["Box IoU ↑"]
    assert everything[-2:] == ["blur, noise", ""]
    assert half[-2:] == ["noise", "blur 0.00"]
    assert everything[3].startswith("1.000")
    assert half[3].startswith("0.750")  # three pairs of noise, one of blur
    lead = next(line for line in lines if len(line) == 6 and line[0] == "Box IoU ↑" and line[1] == "`synthetic`")
    assert lead[3].startswith("0.750")
    assert lead[4:] == ["doesn't reach it; led when this was run", "blur 0.00"]
    assert ["noise", "Confidence drop ↑, Box IoU ↑"] in lines
    assert ["blur", "Confidence drop ↑"] in lines
    agreement = next(line for line in lines if len(line) == 6 and line[0] == "Confidence drop ↑" and line[1] == "6")
    assert agreement[1:4] == ["6", str(IMAGES), "1.00 [1.00, 1.00]"]
