"""Protocols against their authors' definitions, written out in float64 from the published code, on
the embedded network and scenes. Each test makes the authors' maps by itself, from activations and
gradients, in the authors' order of ReLU, scaling and enlarging. docs/protocols.md has the largest
differences; parameters are those of conf/protocol/.
"""

from dataclasses import dataclass, replace
from functools import cache

import numpy as np
import pytest
import torch
from scipy import ndimage, stats

import axiom_bench as ab
from axiom_bench.evaluation.measurement import measure
from axiom_bench.evaluation.whole_set import aggregate
from axiom_bench.explanation.explanation import Explanation
from axiom_bench.run.composing.composition import composed
from axiom_bench.run.composing.settings import Settings
from axiom_bench.run.images import rows
from axiom_bench.run.job import Job
from tests.metrics.build import labelled, overlap
from tests.metrics.test_road import direct

ROUNDING = 1e-12
MODES = (("deletion_auc", "del"), ("insertion_auc", "ins"))
FEW = "data.size=2"
SIDES = (56, 64)  # of images that are cut so that RISE's 224 steps have a whole number of pixels


@dataclass
class Measured:
    """A protocol's values of some scenes, {name: (B,) or a curve}, and what they were computed of.

    method: the name of the formula in `raw_of` that makes the authors' map.
    """

    config: dict
    explanation: Explanation
    metrics: tuple
    values: dict[str, np.ndarray]
    method: str

    def params(self, metric):
        return self.config["metric"][metric]["params"]

    @property
    def raw(self):
        """The signed map that the authors' formula makes of the trace: (B, h, w)."""
        return raw_of(self.explanation.trace, self.method)

    @property
    def images(self):
        return self.explanation.images.numpy()

    def probabilities(self, images):
        """Of the explained class: (B, 3, H', W') -> (B,)."""
        logits = self.explanation.trace.forward(
            torch.from_numpy(np.ascontiguousarray(images))
        ).numpy()
        exponentials = np.exp(logits - logits.max(1, keepdims=True))
        return (exponentials / exponentials.sum(1, keepdims=True))[
            range(len(images)), self.explanation.trace.targets
        ]


def raw_of(trace, method):
    """Grad-CAM's, Grad-CAM++'s or XGrad-CAM's weighted sum of activations, from their papers: (B,
    h, w).
    """
    F, g = trace.activations, trace.gradients
    sums = F.sum((2, 3))
    weights = {
        "grad_cam": lambda: g.mean((2, 3)),
        "grad_cam_pp": lambda: (alphas(g, sums) * g.clamp(min=0)).sum((2, 3)),
        "xgrad_cam": lambda: (g * F).sum((2, 3)) / sums.where(sums != 0, 1),
    }
    return (weights[method]()[..., None, None] * F).sum(1)


def alphas(g, sums):
    """Grad-CAM++'s, with the exponential's factor left out, which is the same for all channels."""
    below = 2 * g**2 + g**3 * sums[..., None, None]
    return torch.where(below == 0, 0, g**2 / below.where(below != 0, 1))


def relu(maps):
    return maps.clamp(min=0)


def enlarged(maps, run, mode="bilinear"):
    return torch.nn.functional.interpolate(
        maps[:, None], run.explanation.images.shape[2:], mode=mode
    )[:, 0]


def by_maximum(maps):
    return maps / maps.amax((1, 2), keepdim=True)


def by_range(maps):
    return by_maximum(maps - maps.amin((1, 2), keepdim=True))


def ranked(maps):
    """Ranks of the map's pixels in the place of its values: no two are equal.

    Two ways to the same map differ in the last bit, and so would the order of pixels that are equal
    but for that.
    """
    pixels = (by_maximum(maps) * 1e9).round().flatten(1)
    ranks = pixels.argsort(stable=True, dim=1).argsort(1).double() / (pixels.shape[1] - 1)
    return ranks.view_as(maps)


def without_ties(explanation):
    return replace(explanation, heatmap=ranked(explanation.heatmap))


def as_it_is(explanation):
    return explanation


@cache
def measured(name, method="xgrad_cam", model="scenes_vgg", change=as_it_is, *overrides):
    """overrides: of the protocol, where a draw is left out."""
    line = [f"protocol={name}", f"model={model}", "data.size=6", "method=[xgrad_cam]", *overrides]
    with composed(line) as composition:
        config = composition.plain_job()
    job = Job.of(Settings.of(config))
    batch = next(iter(rows(job, job.shards[0])))
    images = (
        batch.images.double()[..., : SIDES[0], : SIDES[1]]
        if name == "rise2018"
        else batch.images.double()
    )
    trace = ab.cut(job.model.module.double(), job.model.layer).trace(images, batch.targets)
    function = ab.methods.get(method)
    notes = None if name == "rise2018" else batch
    explanation = change(
        Explanation.of(trace, function(trace), notes, function, config["normalise"])
    )
    values = {}
    for metric in job.metrics:
        answer = measure(metric, explanation, True)
        values |= {
            key: np.asarray(getattr(each, "points", each)) for key, (each, _) in answer.items()
        }
    return Measured(config, explanation, job.metrics, values, method)


def differ(ours, theirs):
    """The largest difference, which `pytest -rP` shows; both have values."""
    assert np.isfinite(theirs).all()
    largest = np.abs(np.asarray(ours, float) - theirs).max()
    print(f"{largest:.2g}")
    return largest


def test_gradcam2017_is_the_papers_text():
    run = measured("gradcam2017", "grad_cam")
    maps = enlarged(relu(run.raw), run).numpy()
    ious = []
    for heatmap, boxes in zip(maps, run.explanation.boxes, strict=True):
        box, _ = labelled(heatmap > 0.15 * heatmap.max(), 8)
        ious.append(max(overlap(box, true.tolist()) for true in boxes))
    order = np.argsort(-run.explanation.trace.logits.numpy(), axis=1)
    targets = run.explanation.trace.targets.numpy()
    assert differ(run.values["box_iou"], np.array(ious)) < ROUNDING
    for name, count in (("top1_loc", 1), ("top5_loc", 5)):
        right = [target in guesses[:count] for target, guesses in zip(targets, order, strict=True)]
        assert differ(run.values[name], np.logical_and(right, np.array(ious) >= 0.5)) == 0
    assert set(run.values["top1_loc"]) == {0, 1}  # else the comparison says little


def test_gradcampp2018_is_the_papers_formula():
    run = measured("gradcampp2018", "grad_cam_pp")
    maps = enlarged(by_maximum(relu(run.raw)), run).numpy()  # the code scales at the layer
    before, after = run.probabilities(run.images), run.probabilities(run.images * maps[:, None])
    assert differ(run.values["average_drop"], np.maximum(before - after, 0) / before) < ROUNDING
    assert differ(run.values["increase_in_confidence"], after > before) == 0
    other = measured("gradcampp2018", "grad_cam_pp", "scenes_vgg", as_it_is, "normalise=maximum")
    assert 1e-3 < differ(other.values["average_drop"], run.values["average_drop"]) < 0.1


def test_scorecam2020_keeps_half_of_the_pixels():
    """As the paper says; and the code's energy_point_game with all boxes."""
    run = measured("scorecam2020", "xgrad_cam", "scenes_vgg", without_ties)
    maps = ranked(by_range(enlarged(relu(run.raw), run))).numpy()
    kept = run.images * (maps > np.median(maps, (1, 2), keepdims=True))[:, None]
    before, after = run.probabilities(run.images), run.probabilities(kept)
    assert (
        differ(run.values["average_drop_of_half"], np.maximum(before - after, 0) / before)
        < ROUNDING
    )
    assert differ(run.values["increase_of_half"], after > before) == 0
    assert differ(run.values["energy_pointing_game"], energies(run, maps)) < ROUNDING
    cam = measured("scorecam2020")
    assert (
        differ(
            cam.values["energy_pointing_game"], energies(cam, enlarged(relu(cam.raw), cam).numpy())
        )
        < ROUNDING
    )
    # The code's ReLU is behind the enlarging, which is the same for maps that are nowhere negative,
    # as Score-CAM's.
    found = differ(
        cam.values["energy_pointing_game"], energies(cam, relu(enlarged(cam.raw, cam)).numpy())
    )
    assert 0 < found < 0.1


def energies(run, maps):
    """The share of a map that is inside of the boxes."""
    shares = []
    for heatmap, boxes in zip(maps, run.explanation.boxes, strict=True):
        inside = np.zeros(heatmap.shape, bool)
        for x0, y0, x1, y1 in boxes.round().int().tolist():
            inside[y0:y1, x0:x1] = True
        shares.append(heatmap[inside].sum() / heatmap.sum())
    return np.array(shares)


def causal_metric(run, maps, mode):
    """RISE's CausalMetric: flipped argsort, as many pixels a step as 224 steps need."""
    pixels = SIDES[0] * SIDES[1]
    impulse = np.zeros((11, 11))
    impulse[5, 5] = 1
    kernel = ndimage.gaussian_filter(impulse, 5)
    blurred = np.stack(
        [
            [ndimage.convolve(channel, kernel, mode="constant") for channel in image]
            for image in run.images
        ]
    )
    start, finish = (run.images, 0 * run.images) if mode == "del" else (blurred, run.images)
    start, finish = start.reshape(-1, 3, pixels).copy(), finish.reshape(-1, 3, pixels)
    order = np.flip(np.argsort(maps.numpy().reshape(-1, pixels), axis=1), axis=1)
    step, scores = pixels // 224, []
    for i in range(225):
        scores.append(run.probabilities(start.reshape(run.images.shape)))
        for row, places in enumerate(order[:, step * i : step * (i + 1)]):
            start[row][:, places] = finish[row][:, places]
    return (np.sum(scores, 0) - scores[0] / 2 - scores[-1] / 2) / 224


@pytest.mark.slow
def test_rise2018_is_causal_metric_where_no_pixels_are_equal():
    run = measured("rise2018", "xgrad_cam", "scenes_resnet", without_ties, FEW)
    maps = enlarged(relu(run.raw), run)
    for name, mode in MODES:
        assert differ(run.values[name], causal_metric(run, ranked(maps), mode)) < ROUNDING
    cam = measured("rise2018", "xgrad_cam", "scenes_resnet", as_it_is, FEW)
    found = [differ(cam.values[name], causal_metric(cam, maps, mode)) for name, mode in MODES]
    assert 0 < max(found) < 0.05  # by the order of pixels that ReLU makes 0


def coherency_of(maps, again):
    """Pearson's correlation of two maps, moved to [0, 1]."""
    correlations = [
        stats.pearsonr(a.ravel(), b.ravel())[0] for a, b in zip(maps, again, strict=True)
    ]
    return (np.array(correlations) + 1) / 2


def raw_of_kept(run, maps):
    """The raw map of image x map."""
    trace = run.explanation.trace
    return raw_of(
        trace.again(images=torch.from_numpy(run.images * maps[:, None]), targets=trace.targets),
        run.method,
    )


def test_adcc2021_is_the_authors_code():
    """torch-cam scales a map by its range in the layer's size, and the code enlarges it."""
    run = measured("adcc2021")
    maps = enlarged(by_range(relu(run.raw)), run).numpy()
    before, after = run.probabilities(run.images), run.probabilities(run.images * maps[:, None])
    drop, complexity = np.maximum(before - after, 0) / before, np.abs(maps).mean((1, 2))
    coherency = coherency_of(maps, enlarged(by_range(relu(raw_of_kept(run, maps))), run).numpy())
    for name, theirs in (
        ("average_drop", drop),
        ("complexity", complexity),
        ("coherency", coherency),
    ):
        assert differ(run.values[name], theirs) < ROUNDING
    assert (
        differ(run.values["adcc"], 3 / (1 / coherency + 1 / (1 - complexity) + 1 / (1 - drop)))
        < ROUNDING
    )
    other = measured("adcc2021", "xgrad_cam", "scenes_vgg", as_it_is, "normalise=minmax")
    assert 1e-3 < differ(other.values["adcc"], run.values["adcc"]) < 0.1


def imputed(run, holes):
    return np.stack([direct(image, hole) for image, hole in zip(run.images, holes, strict=True)])


@pytest.mark.slow
def test_road2022_removes_what_the_code_removes():
    """Without noise, which both draw."""
    zero = tuple(f"metric.{name}.params.noise=0" for name in ("road_morf", "road_lerf"))
    run = measured("road2022", "xgrad_cam", "scenes_resnet", without_ties, "data.size=4", *zero)
    maps = ranked(enlarged(relu(run.raw), run)).numpy()
    pixels = maps[0].size
    order = np.argsort(-maps.reshape(-1, pixels), axis=1)
    targets, curves = run.explanation.trace.targets.numpy(), {"morf": [], "lerf": []}
    for p in run.params("road_morf")["fractions"]:
        for name, places in (
            ("morf", order[:, : int(pixels * p)]),
            ("lerf", order[:, int(pixels * p) :]),
        ):
            holes = np.zeros((len(order), pixels), bool)
            np.put_along_axis(holes, places, True, 1)
            logits = run.explanation.trace.forward(
                torch.from_numpy(imputed(run, holes.reshape(maps.shape)))
            )
            curves[name].append(logits.argmax(1).numpy() == targets)
    for name, points in curves.items():
        assert differ(run.values[f"road_{name}"], np.mean(points, 0)) < ROUNDING
    assert len({*run.values["road_morf"], *run.values["road_lerf"]}) > 2


def idsds(run, attributions):
    """single_deletion.py: the sums of 4 x 4 cells and what the label's logit loses, ranked."""
    side, targets = run.images.shape[2] // 4, run.explanation.trace.targets
    score = run.explanation.trace.logits.gather(1, targets[:, None])[:, 0].numpy()
    sums, drops = [], []
    for y, x in np.ndindex(4, 4):
        cell = np.s_[..., y * side : (y + 1) * side, x * side : (x + 1) * side]
        deleted = run.images.copy()
        deleted[cell] = 0
        logits = (
            run.explanation.trace.forward(torch.from_numpy(deleted))
            .gather(1, targets[:, None])[:, 0]
            .numpy()
        )
        sums.append(attributions[cell].sum((1, 2)))
        drops.append(score - logits)
    return np.array(
        [
            stats.spearmanr(*each)[0]
            for each in zip(np.transpose(sums), np.transpose(drops), strict=True)
        ]
    )


def test_idsds2024_is_the_code_on_the_signed_map():
    run = measured("idsds2024")
    assert (
        differ(run.values["single_deletion"], idsds(run, enlarged(run.raw, run).numpy())) < ROUNDING
    )
    found = differ(
        run.values["single_deletion"], idsds(run, enlarged(relu(run.raw), run, "nearest").numpy())
    )
    assert 0 < found < 0.5  # cells that ReLU makes 0 have one rank


def road_combined(run, heatmaps, percentiles):
    """pytorch-grad-cam's: pixels at the percentile or above it are removed, of the map, and of 1 -
    map.
    """
    shares = []
    for percentile in percentiles:
        for sign, maps in ((-1, heatmaps), (1, 1 - heatmaps)):
            holes = maps >= np.percentile(maps, percentile, axis=(1, 2), keepdims=True)
            shares.append(sign * run.probabilities(imputed(run, holes)))
    return np.sum(shares, 0) / len(percentiles) / 2


@pytest.mark.slow
def test_arcc2026_is_the_libraries_class_but_for_a_pixel():
    """Without noise. A percentile's pixels may be one more than the rounded fraction. The library
    scales a map at the layer, enlarges it and scales it again.
    """
    zero, found = "metric.arcc.params.noise=0", []
    for change, same in ((without_ties, ranked), (as_it_is, by_range)):
        run = measured("arcc2026", "grad_cam", "scenes_resnet", change, FEW, zero)
        maps = same(enlarged(by_range(relu(run.raw)), run)).numpy()
        again = by_range(enlarged(by_range(relu(raw_of_kept(run, maps))), run)).numpy()
        coherency, complexity = coherency_of(maps, again), maps.mean((1, 2))
        road = np.clip(
            2 * road_combined(run, maps, [100 * each for each in run.params("arcc")["fractions"]]),
            0,
            1,
        )
        theirs = 3 / (1 / (coherency + 1e-8) + 1 / (1 - complexity + 1e-8) + 1 / (road + 1e-8))
        found.append(differ(run.values["arcc"], theirs))
    assert found[0] < 1e-3
    # where ReLU makes many pixels 0, a percentile removes all of them
    assert 1e-3 < found[1] < 0.02


def test_latec2024s_sparseness_and_complexity_are_quantuss():
    """Quantus adds 1e-7 to each pixel before it takes the Gini index: 1e-7 n over the map's sum.
    LATEC scales the enlarged map by its range.
    """
    run = measured("latec2024", "xgrad_cam", "scenes_vgg", as_it_is, "metric=[entropy,gini]")
    maps = by_range(enlarged(relu(run.raw), run)).flatten(1).numpy()
    values = np.sort(maps + 1e-7, 1)
    ranks = 2 * np.arange(1, values.shape[1] + 1) - values.shape[1] - 1
    assert (
        differ(run.values["gini"], (ranks * values).sum(1) / (values.shape[1] * values.sum(1)))
        < 1e-5
    )
    assert (
        differ(run.values["entropy"], stats.entropy(maps / maps.sum(1, keepdims=True), axis=1))
        < ROUNDING
    )


def test_wsol2020_counts_boxes_and_pixels_as_the_code():
    """On 8 bits and OpenCV's contours: test_localization_loops.py has what wsolevaluation itself
    printed.
    """
    run = measured("wsol2020")
    assert run.params("max_box_acc_v2") == ab.metrics.get("max_box_acc_v2").params
    scores = by_range(enlarged(run.raw, run, "bicubic")).numpy()
    masks = run.explanation.masks.numpy()
    edges = np.append(np.arange(0, 1, 0.001), [1.0, 2.0, 3.0])
    histograms = [np.histogram(scores[mask], edges)[0][::-1].cumsum() for mask in (masks, ~masks)]
    precision = histograms[0] / np.maximum(sum(histograms), 1)
    recall = histograms[0] / masks.sum()
    area = np.sum(precision[1:] * np.diff(recall))
    pxap = next(metric for metric in run.metrics if metric.name == "pxap")
    curves = {curve: run.values[curve] for curve in pxap.spec.curves}
    assert differ(aggregate(pxap)(curves)["pxap"], area) < ROUNDING


def test_xgradcam2020_has_the_axioms_of_brute_force():
    """Each channel set to zero, at the layer of the embedded network; the authors' weights with
    their 1e-6.
    """
    run = measured("xgradcam2020")
    trace = run.explanation.trace
    F, g = trace.activations, trace.gradients
    weights = (g * F).sum((2, 3)) / (F.sum((2, 3)) + 1e-6)
    totals = (weights[..., None, None] * F).sum((2, 3))
    without = [F * (torch.arange(F.shape[1]) != k)[:, None, None] for k in range(F.shape[1])]
    scores = [trace.head(each).gather(1, trace.targets[:, None])[:, 0] for each in without]
    drops = trace.scores[:, None] - torch.stack(scores, 1)
    sensitivity = ((drops - totals).abs().sum(1) / drops.abs().sum(1)).numpy()
    conservation = ((trace.scores - totals.sum(1)).abs() / trace.scores.abs()).numpy()
    found = (
        differ(run.values["sensitivity_error"], sensitivity),
        differ(run.values["conservation_error"], conservation),
    )
    assert max(found) < 1e-6
