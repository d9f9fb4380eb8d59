"""Protocols against their authors' definitions, on the embedded network and scenes.

The definitions are written in float64 from the published code. Each test computes the authors' maps
by itself from activations and gradients, in the authors' order of ReLU, scaling and enlarging.
docs/protocols.md lists the largest differences. The parameters are those of conf/protocol/.
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
    """The values of a protocol on some scenes, with the explanation that they belong to."""

    config: dict
    """The job's settings."""
    explanation: Explanation
    """The explanation of the scenes."""
    metrics: tuple
    """The protocol's metrics."""
    values: dict[str, np.ndarray]
    """The values by name: (B,), or a curve."""
    method: str
    """The name of the formula in `raw_of` that computes the authors' map."""

    def params(self, metric):
        return self.config["metric"][metric]["params"]

    @property
    def raw(self):
        """The signed map (B, h, w) that the authors' formula computes from the trace."""
        return raw_of(self.explanation.trace, self.method)

    @property
    def images(self):
        return self.explanation.images.numpy()

    def probabilities(self, images):
        """Return the probabilities (B,) of the explained class in images (B, 3, H', W')."""
        trace = self.explanation.trace
        logits = trace.forward(torch.from_numpy(np.ascontiguousarray(images))).numpy()
        exponentials = np.exp(logits - logits.max(1, keepdims=True))
        probabilities = exponentials / exponentials.sum(1, keepdims=True)
        return probabilities[range(len(images)), trace.targets]


def raw_of(trace, method):
    """Return the method's weighted sum of activations (B, h, w), from the method's paper."""
    F = trace.activations
    g = trace.gradients
    sums = F.sum((2, 3))
    if method == "grad_cam":
        weights = g.mean((2, 3))
    elif method == "grad_cam_pp":
        weights = (alphas(g, sums) * g.clamp(min=0)).sum((2, 3))
    else:
        assert method == "xgrad_cam"
        weights = (g * F).sum((2, 3)) / sums.where(sums != 0, 1)
    return (weights[..., None, None] * F).sum(1)


def alphas(g, sums):
    """Return Grad-CAM++'s alphas without the exponential's factor.

    The factor is the same for all channels.
    """
    below = 2 * g**2 + g**3 * sums[..., None, None]
    return torch.where(below == 0, 0, g**2 / below.where(below != 0, 1))


def relu(maps):
    return maps.clamp(min=0)


def enlarged(maps, run, mode="bilinear"):
    size = run.explanation.images.shape[2:]
    return torch.nn.functional.interpolate(maps[:, None], size, mode=mode)[:, 0]


def by_maximum(maps):
    return maps / maps.amax((1, 2), keepdim=True)


def by_range(maps):
    return by_maximum(maps - maps.amin((1, 2), keepdim=True))


def ranked(maps):
    """Replace the map's values by their ranks, of which no two are equal.

    Two ways to compute the same map differ in the last bit. Without ranks, so would the order of
    pixels that are equal except for that bit.
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
    """Run a protocol with one method on some scenes, and apply `change` to the explanation.

    The overrides are settings that differ from the protocol's, such as a draw that is left out.
    """
    line = [f"protocol={name}", f"model={model}", "data.size=6", "method=[xgrad_cam]", *overrides]
    with composed(line) as composition:
        config = composition.plain_job()
    job = Job.of(Settings.of(config))
    batch = next(iter(rows(job, job.shards[0])))
    images = batch.images.double()
    annotated_batch = batch
    if name == "rise2018":
        images = images[..., : SIDES[0], : SIDES[1]]
        annotated_batch = None
    trace = ab.cut(job.model.module.double(), job.model.layer).trace(images, batch.targets)
    function = ab.methods.get(method)
    explanation = Explanation.of(
        trace, function(trace), annotated_batch, function, config["normalise"]
    )
    explanation = change(explanation)
    values = {}
    for metric in job.metrics:
        for key, (answer, _) in measure(metric, explanation, True).items():
            values[key] = np.asarray(getattr(answer, "points", answer))
    return Measured(config, explanation, job.metrics, values, method)


def relative_drop(before, after):
    """Return the share of the probability that is lost, or 0 if it rises."""
    return np.maximum(before - after, 0) / before


def differ(ours, theirs):
    """Return the largest difference, which `pytest -rP` prints, and check that it is finite."""
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
        ious.append(max(overlap(box, true_box.tolist()) for true_box in boxes))
    ious = np.array(ious)
    order = np.argsort(-run.explanation.trace.logits.numpy(), axis=1)
    targets = run.explanation.trace.targets.numpy()

    assert differ(run.values["box_iou"], ious) < ROUNDING
    for name, count in (("top1_loc", 1), ("top5_loc", 5)):
        is_predicted = (order[:, :count] == targets[:, None]).any(1)
        assert differ(run.values[name], is_predicted & (ious >= 0.5)) == 0
    assert set(run.values["top1_loc"]) == {0, 1}  # otherwise the comparison says little


def test_gradcampp2018_is_the_papers_formula():
    run = measured("gradcampp2018", "grad_cam_pp")
    maps = enlarged(by_maximum(relu(run.raw)), run).numpy()  # the code scales at the layer
    before = run.probabilities(run.images)
    after = run.probabilities(run.images * maps[:, None])
    assert differ(run.values["average_drop"], relative_drop(before, after)) < ROUNDING
    assert differ(run.values["increase_in_confidence"], after > before) == 0
    other = measured("gradcampp2018", "grad_cam_pp", "scenes_vgg", as_it_is, "normalise=maximum")
    assert 1e-3 < differ(other.values["average_drop"], run.values["average_drop"]) < 0.1


def test_scorecam2020_keeps_half_of_the_pixels():
    """Check the drop as the paper defines it, and the code's energy_point_game with all boxes."""
    run = measured("scorecam2020", "xgrad_cam", "scenes_vgg", without_ties)
    maps = ranked(by_range(enlarged(relu(run.raw), run))).numpy()
    is_kept = maps > np.median(maps, (1, 2), keepdims=True)
    before = run.probabilities(run.images)
    after = run.probabilities(run.images * is_kept[:, None])
    assert differ(run.values["average_drop_of_half"], relative_drop(before, after)) < ROUNDING
    assert differ(run.values["increase_of_half"], after > before) == 0
    assert differ(run.values["energy_pointing_game"], energies(run, maps)) < ROUNDING

    cam = measured("scorecam2020")
    ours = cam.values["energy_pointing_game"]
    relu_first = enlarged(relu(cam.raw), cam).numpy()
    assert differ(ours, energies(cam, relu_first)) < ROUNDING
    # The code applies the ReLU after the enlarging. This makes no difference for maps that are
    # nowhere negative, such as Score-CAM's.
    relu_last = relu(enlarged(cam.raw, cam)).numpy()
    assert 0 < differ(ours, energies(cam, relu_last)) < 0.1


def energies(run, maps):
    """Return the share of each map that is inside of the boxes."""
    shares = []
    for heatmap, boxes in zip(maps, run.explanation.boxes, strict=True):
        inside = np.zeros(heatmap.shape, bool)
        for x0, y0, x1, y1 in boxes.round().int().tolist():
            inside[y0:y1, x0:x1] = True
        shares.append(heatmap[inside].sum() / heatmap.sum())
    return np.array(shares)


def causal_metric(run, maps, mode):
    """Compute RISE's CausalMetric: a flipped argsort, and 224 steps of equal numbers of pixels."""
    pixels = SIDES[0] * SIDES[1]
    if mode == "del":
        start = run.images
        finish = 0 * run.images
    else:
        impulse = np.zeros((11, 11))
        impulse[5, 5] = 1
        kernel = ndimage.gaussian_filter(impulse, 5)
        start = ndimage.convolve(run.images, kernel[None, None], mode="constant")
        finish = run.images
    start = start.reshape(-1, 3, pixels).copy()
    finish = finish.reshape(-1, 3, pixels)
    order = np.flip(np.argsort(maps.numpy().reshape(-1, pixels), axis=1), axis=1)
    step = pixels // 224
    scores = []
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
    differences = [differ(cam.values[name], causal_metric(cam, maps, mode)) for name, mode in MODES]
    assert 0 < max(differences) < 0.05  # from the order of pixels that ReLU makes 0


def coherency_of(maps, other_maps):
    """Return Pearson's correlation of two maps, moved to [0, 1]."""
    correlations = []
    for first, second in zip(maps, other_maps, strict=True):
        correlations.append(stats.pearsonr(first.ravel(), second.ravel())[0])
    return (np.array(correlations) + 1) / 2


def raw_of_kept(run, maps):
    """Return the raw map of image x map."""
    trace = run.explanation.trace
    images = torch.from_numpy(run.images * maps[:, None])
    return raw_of(trace.again(images=images, targets=trace.targets), run.method)


def test_adcc2021_is_the_authors_code():
    """Check the values for maps that are scaled at the layer's size and enlarged then.

    torch-cam scales a map by its range, and the authors' code enlarges it.
    """
    run = measured("adcc2021")
    maps = enlarged(by_range(relu(run.raw)), run).numpy()
    maps_of_kept = enlarged(by_range(relu(raw_of_kept(run, maps))), run).numpy()
    before = run.probabilities(run.images)
    after = run.probabilities(run.images * maps[:, None])
    drop = relative_drop(before, after)
    complexity = np.abs(maps).mean((1, 2))
    coherency = coherency_of(maps, maps_of_kept)
    adcc = 3 / (1 / coherency + 1 / (1 - complexity) + 1 / (1 - drop))

    assert differ(run.values["average_drop"], drop) < ROUNDING
    assert differ(run.values["complexity"], complexity) < ROUNDING
    assert differ(run.values["coherency"], coherency) < ROUNDING
    assert differ(run.values["adcc"], adcc) < ROUNDING
    other = measured("adcc2021", "xgrad_cam", "scenes_vgg", as_it_is, "normalise=minmax")
    assert 1e-3 < differ(other.values["adcc"], run.values["adcc"]) < 0.1


def imputed(run, holes):
    filled_images = [direct(image, hole) for image, hole in zip(run.images, holes, strict=True)]
    return np.stack(filled_images)


@pytest.mark.slow
def test_road2022_removes_what_the_code_removes():
    """Check the curves without noise, which both draw."""
    run = measured(
        "road2022",
        "xgrad_cam",
        "scenes_resnet",
        without_ties,
        "data.size=4",
        "metric.road_morf.params.noise=0",
        "metric.road_lerf.params.noise=0",
    )
    trace = run.explanation.trace
    maps = ranked(enlarged(relu(run.raw), run)).numpy()
    pixels = maps[0].size
    order = np.argsort(-maps.reshape(-1, pixels), axis=1)
    curves = {"morf": [], "lerf": []}
    for fraction in run.params("road_morf")["fractions"]:
        count = int(pixels * fraction)
        for name, places in (("morf", order[:, :count]), ("lerf", order[:, count:])):
            holes = np.zeros((len(order), pixels), bool)
            np.put_along_axis(holes, places, True, 1)
            filled_images = imputed(run, holes.reshape(maps.shape))
            predictions = trace.forward(torch.from_numpy(filled_images)).argmax(1)
            curves[name].append((predictions == trace.targets).numpy())
    for name, points in curves.items():
        assert differ(run.values[f"road_{name}"], np.mean(points, 0)) < ROUNDING
    assert len({*run.values["road_morf"], *run.values["road_lerf"]}) > 2


def idsds(run, attributions):
    """Compute single_deletion.py's rank correlation.

    The correlation is of the sums of 4 x 4 cells and the drops in the label's logit.
    """
    side = run.images.shape[2] // 4
    trace = run.explanation.trace
    labels = trace.targets[:, None]
    scores = trace.logits.gather(1, labels)[:, 0].numpy()
    sums = []
    drops = []
    for y, x in np.ndindex(4, 4):
        cell = np.s_[..., y * side : (y + 1) * side, x * side : (x + 1) * side]
        deleted = run.images.copy()
        deleted[cell] = 0
        logits = trace.forward(torch.from_numpy(deleted))
        sums.append(attributions[cell].sum((1, 2)))
        drops.append(scores - logits.gather(1, labels)[:, 0].numpy())
    correlations = []
    for image_sums, image_drops in zip(np.transpose(sums), np.transpose(drops), strict=True):
        correlations.append(stats.spearmanr(image_sums, image_drops)[0])
    return np.array(correlations)


def test_idsds2024_is_the_code_on_the_signed_map():
    run = measured("idsds2024")
    signed = enlarged(run.raw, run).numpy()
    positive = enlarged(relu(run.raw), run, "nearest").numpy()
    assert differ(run.values["single_deletion"], idsds(run, signed)) < ROUNDING
    difference = differ(run.values["single_deletion"], idsds(run, positive))
    assert 0 < difference < 0.5  # cells that ReLU makes 0 have one rank


def road_combined(run, heatmaps, percentiles):
    """Compute pytorch-grad-cam's ROAD, which removes pixels at the percentile or above it.

    The pixels are those of the map, and those of 1 - map.
    """
    shares = []
    for percentile in percentiles:
        for sign, maps in ((-1, heatmaps), (1, 1 - heatmaps)):
            holes = maps >= np.percentile(maps, percentile, axis=(1, 2), keepdims=True)
            shares.append(sign * run.probabilities(imputed(run, holes)))
    return np.sum(shares, 0) / len(percentiles) / 2


@pytest.mark.slow
def test_arcc2026_is_the_libraries_class_but_for_a_pixel():
    """Check the values without noise.

    A percentile's pixels may be one more than the rounded fraction. The library scales a map at the
    layer, enlarges it and scales it again.
    """
    without_noise = "metric.arcc.params.noise=0"
    differences = []
    for change, scale in ((without_ties, ranked), (as_it_is, by_range)):
        run = measured("arcc2026", "grad_cam", "scenes_resnet", change, FEW, without_noise)
        maps = scale(enlarged(by_range(relu(run.raw)), run)).numpy()
        maps_of_kept = by_range(enlarged(by_range(relu(raw_of_kept(run, maps))), run)).numpy()
        coherency = coherency_of(maps, maps_of_kept)
        complexity = maps.mean((1, 2))
        percentiles = [100 * fraction for fraction in run.params("arcc")["fractions"]]
        road = np.clip(2 * road_combined(run, maps, percentiles), 0, 1)
        theirs = 3 / (1 / (coherency + 1e-8) + 1 / (1 - complexity + 1e-8) + 1 / (road + 1e-8))
        differences.append(differ(run.values["arcc"], theirs))
    of_ranks, of_maps = differences
    assert of_ranks < 1e-3
    assert 1e-3 < of_maps < 0.02  # a percentile removes all of the pixels that ReLU makes 0


def test_latec2024s_sparseness_and_complexity_are_quantuss():
    """Check the values of a map that is enlarged and then scaled by its range, as by LATEC.

    Quantus adds 1e-7 to each pixel before it computes the Gini index: 1e-7 n over the map's sum.
    """
    run = measured("latec2024", "xgrad_cam", "scenes_vgg", as_it_is, "metric=[entropy,gini]")
    maps = by_range(enlarged(relu(run.raw), run)).flatten(1).numpy()
    values = np.sort(maps + 1e-7, 1)
    pixels = values.shape[1]
    ranks = 2 * np.arange(1, pixels + 1) - pixels - 1
    gini = (ranks * values).sum(1) / (pixels * values.sum(1))
    entropy = stats.entropy(maps / maps.sum(1, keepdims=True), axis=1)
    assert differ(run.values["gini"], gini) < 1e-5
    assert differ(run.values["entropy"], entropy) < ROUNDING


def test_wsol2020_counts_boxes_and_pixels_as_the_code():
    """Check the area of pixels.

    test_localization_loops.py checks boxes, on 8 bits and OpenCV's contours, against the values
    that wsolevaluation itself printed.
    """
    run = measured("wsol2020")
    assert run.params("max_box_acc_v2") == ab.metrics.get("max_box_acc_v2").params
    scores = by_range(enlarged(run.raw, run, "bicubic")).numpy()
    masks = run.explanation.masks.numpy()
    edges = np.append(np.arange(0, 1, 0.001), [1.0, 2.0, 3.0])
    num_hit = np.histogram(scores[masks], edges)[0][::-1].cumsum()
    num_missed = np.histogram(scores[~masks], edges)[0][::-1].cumsum()
    precision = num_hit / np.maximum(num_hit + num_missed, 1)
    recall = num_hit / masks.sum()
    area = np.sum(precision[1:] * np.diff(recall))
    pxap = next(metric for metric in run.metrics if metric.name == "pxap")
    curves = {curve: run.values[curve] for curve in pxap.spec.curves}
    assert differ(aggregate(pxap)(curves)["pxap"], area) < ROUNDING


def test_xgradcam2020_has_the_axioms_of_brute_force():
    """Check the errors by setting each channel to zero, at the layer of the embedded network.

    The authors' weights have their 1e-6.
    """
    run = measured("xgradcam2020")
    trace = run.explanation.trace
    F = trace.activations
    g = trace.gradients
    weights = (g * F).sum((2, 3)) / (F.sum((2, 3)) + 1e-6)
    totals = (weights[..., None, None] * F).sum((2, 3))
    scores = []
    for k in range(F.shape[1]):
        ablated = F * (torch.arange(F.shape[1]) != k)[:, None, None]
        logits = trace.head(ablated)
        scores.append(logits.gather(1, trace.targets[:, None])[:, 0])
    drops = trace.scores[:, None] - torch.stack(scores, 1)
    sensitivity = ((drops - totals).abs().sum(1) / drops.abs().sum(1)).numpy()
    conservation = ((trace.scores - totals.sum(1)).abs() / trace.scores.abs()).numpy()
    assert differ(run.values["sensitivity_error"], sensitivity) < 1e-6
    assert differ(run.values["conservation_error"], conservation) < 1e-6
