"""The formulas that an audit finds, of changed implementations, methods and three libraries."""

from weakref import WeakKeyDictionary

import pytest
import torch
from torch import nn

from axiom_bench.auditing.audit import Audit
from axiom_bench.auditing.case import Case
from axiom_bench.auditing.cases import DESIGNS, cases
from axiom_bench.auditing.formulas import FormulaSearch, find_formula
from axiom_bench.auditing.observation import observe
from axiom_bench.auditing.references import References
from axiom_bench.auditing.result import Expectation
from axiom_bench.auditing.screening import compared_pixels
from axiom_bench.auditing.variants import other_params
from axiom_bench.auditing.verdict import FormulaAnswer
from axiom_bench.cutting.cut_model import cut
from axiom_bench.evaluation import plugins
from axiom_bench.explanation.explanation import Explanation
from tests.auditing.made_cams import (
    COMBINED,
    FURTHER,
    LOGIT,
    SINGLE,
    by_maximum,
    by_min_max,
    cam,
    finish_with,
    grad_weights,
    hooked,
    layer_weights,
    resize,
)

ALL_MADE = {**SINGLE, **COMBINED}
QUICK = ("batch_score", "bias", "nearest", "softmax_min_max")
NAMED_EXACTLY = (*QUICK, "epsilon", "log_softmax_pp", "raw")
ALIGNED = {"mode": "bilinear", "align_corners": True}
MIN_NAMED = 28  # of the thirty implementations


@pytest.fixture(scope="module")
def networks():
    """The networks, built once, so that all audits share their traces and the methods' answers.

    An audit of one implementation doesn't keep the answers, since those of a photograph are large.
    """
    answers_by_references = WeakKeyDictionary()
    compute = References._computed

    def computed_once(references, method, reading):
        answers = answers_by_references.setdefault(references, {})
        key = (method.name, reading)
        if key not in answers:
            answers[key] = compute(references, method, reading)
        return answers[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(References, "_computed", computed_once)
        yield cases()


def is_named(answer: FormulaAnswer, formula: str, changes: tuple[str, ...]) -> bool:
    """Return True if the verdict has this formula and these changes, and nothing but synonyms."""
    title = plugins.load("method", formula).spec.title
    text = f"{title} ({', '.join(changes)})"
    return answer.formula == formula and text in answer.verdict


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [
        name if name in QUICK else pytest.param(name, marks=pytest.mark.slow)
        for name in NAMED_EXACTLY
    ],
)
def test_the_changes_are_named(networks, name):
    made = ALL_MADE[name]
    answer = find_formula(made.function, networks)
    assert (answer.status, answer.formula, answer.changes) == ("known", made.formula, made.changes)
    assert set(answer.differences) == {design.name for design in DESIGNS}


QUICK_FURTHER = (
    "alpha_epsilon",
    "alpha_normalised",
    "gradients_as_activations",
    "ones",
    "reversed",
    "squared_error",
    "summed_bias",
)


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [
        name if name in QUICK_FURTHER else pytest.param(name, marks=pytest.mark.slow)
        for name in FURTHER
    ],
)
def test_further_changes_are_named(networks, name):
    made = FURTHER[name]
    answer = find_formula(made.function, networks)
    assert answer.status == "known"
    assert is_named(answer, made.formula, made.changes), answer.verdict


@pytest.mark.slow
def test_at_least_28_of_30_implementations_are_named_and_none_wrongly(networks):
    assert len(ALL_MADE) == 30
    unnamed = []
    for name, made in ALL_MADE.items():
        answer = find_formula(made.function, networks)
        if not is_named(answer, made.formula, made.changes):
            assert answer.formula is None, f"{name}: {answer.verdict}"
            unnamed.append(name)
    assert len(ALL_MADE) - len(unnamed) >= MIN_NAMED, unnamed


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "params"),
    [
        ("finer_cam", {"gamma": 0.35}),
        ("finer_cam", {"gamma": 1.0, "weighting": "probability"}),
        ("recipro_cam", {"gaussian": False}),
        ("score_cam", {"score": "probability", "channel_softmax": False}),
    ],
)
def test_other_parameters_are_named(networks, name, params):
    method = plugins.with_params("method", name, params)
    answer = find_formula(of_method(method), networks[:3])
    assert (answer.status, answer.formula) == ("known", name), answer.verdict
    assert set(answer.reading.params) == set(params.items())
    title = method.spec.title
    assert answer.verdict.startswith(f"computes {title} ({answer.changes[0]}")


def test_numbers_switches_and_names_are_tried_and_no_random_draws(networks):
    trace = cut(networks[0].model, "target", output="logits").trace(
        networks[0].images, networks[0].targets
    )
    tried = set(other_params(plugins.load("method", "finer_cam"), trace))
    assert {(("gamma", 0.35),), (("gamma", 1.0), ("weighting", "probability"))} <= tried
    assert (("gaussian", False),) in other_params(plugins.load("method", "recipro_cam"), trace)
    assert not list(other_params(plugins.load("method", "smooth_grad_cam_pp"), trace))


@pytest.mark.slow
def test_another_formula_than_the_expected_one_is_reported(networks):
    answer = find_formula(cam(), networks, expected="Opti-CAM")
    assert answer.status == "other_than_named"
    assert answer.verdict == "computes Grad-CAM; Opti-CAM was expected"
    assert find_formula(cam(), networks, expected="grad_cam").status == "known"


@pytest.mark.slow
def test_synonyms_are_listed_together(networks):
    answer = find_formula(SINGLE["softmax"].function, networks)
    assert "Grad-CAM (softmax score) or Grad-CAM (log-softmax score)" in answer.verdict


def test_an_implementation_that_fails_everywhere_has_no_formula(networks):
    def broken(model, layer, images, targets):
        raise RuntimeError("no such layer")

    answer = find_formula(broken, networks)
    assert answer.status == "unknown"
    assert answer.verdict.endswith("RuntimeError: no such layer")


@pytest.mark.slow
def test_an_unknown_formula_has_its_nearest_one(networks):
    def unknown(activations, gradients):
        return grad_weights(activations, gradients) + 0.2 * gradients.square()

    answer = find_formula(cam(unknown), networks)
    assert (answer.status, answer.formula) == ("unknown", None)
    assert answer.verdict.startswith("no known formula: nearest is Grad-CAM")
    assert not [change for change in answer.nearest_changes if "gradients" in change]


def component_cam(model, layer, images, targets):
    """Return the first principal component of the weighted activations, as bnnr's gradcam does."""
    activations, gradients = hooked(model, layer, images, LOGIT(targets))
    weighted = (grad_weights(activations, gradients) * activations).flatten(2).mT
    centred = weighted - weighted.mean(1, keepdim=True)
    directions = torch.linalg.svd(centred, full_matrices=False)[2]
    components = (centred @ directions[:, 0, :, None]).view(len(images), *activations.shape[2:])
    return by_min_max(resize(components.relu(), images.shape[2:]))


def negated_cam(model, layer, images, targets):
    """Return maps of which the first is negated before its ReLU, as torchxai-explain may do."""
    raw = cam(finish=lambda raw, size: raw)(model, layer, images, targets)
    signed = torch.cat([-raw[:1], raw[1:]])
    return by_min_max(resize(signed, images.shape[2:]).relu())


@pytest.mark.slow
def test_a_constant_is_never_part_of_the_nearest_formula(networks):
    observations = [observe(negated_cam, case) for case in networks]
    search = FormulaSearch(networks, observations, lambda line: None)
    candidate = search.nearest([]).candidate
    assert (candidate.name, candidate.reading.bias) == ("grad_cam", "")


def noise_cam(model, layer, images, targets):
    generator = torch.Generator().manual_seed(images.shape[2])
    return torch.rand(images[:, 0].shape, generator=generator)


@pytest.mark.slow
@pytest.mark.parametrize("function", [component_cam, noise_cam])
def test_no_formula_is_named_as_the_nearest_if_all_are_far_away(networks, function):
    """A constant that is added to a map would make differences small, as shares of the map."""
    observations = [observe(function, case) for case in networks]
    search = FormulaSearch(networks, observations, lambda line: None)
    assert search.nearest([]) is None


@pytest.mark.slow
def test_no_formula_is_named_if_it_is_near_only_on_the_first_photograph():
    answer = find_formula(component_cam, [photograph_case(num_images=4)])
    assert (answer.verdict, answer.nearest) == ("no known formula", None)
    audit = Audit("team:cam", answer, expected=Expectation.of("grad_cam"))
    assert (audit.is_as_expected, audit.exit_code) == (False, 1)


@pytest.mark.slow
def test_the_nearest_formula_is_chosen_over_all_networks(networks):
    """The first network alone says LayerCAM."""
    few = networks[:3]
    layer_cam = cam(layer_weights)
    grad_cam = cam()

    def function(model, layer, images, targets):
        is_first = images.shape[2:] == few[0].images.shape[2:]
        return (layer_cam if is_first else grad_cam)(model, layer, images, targets)

    observations = [observe(function, case) for case in few]
    search = FormulaSearch(few, observations, lambda line: None)
    nearest = search.nearest([])
    assert (nearest.candidate.name, nearest.num_equal) == ("grad_cam", 2)


@pytest.mark.slow
def test_a_formula_that_is_compared_on_too_few_networks_is_only_the_nearest(networks):
    """CAM explains the first of these networks only, and equals the maps there."""
    few = [case for case in networks if case.name in ("a linear head", "a ReLU head")]
    usual = cam()

    def function(model, layer, images, targets):
        maps = usual(model, layer, images, targets)
        has_relu_head = len(model.head) == 4
        return maps.sin().cumsum(1) if has_relu_head else maps

    answer = find_formula(function, few)
    assert (answer.status, answer.formula) == ("unknown", None)
    assert "equal on" in answer.verdict


def photograph_case(num_images=1):
    """Return a network with as many positions as VGG-16's last layer, and images of its size."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = nn.Sequential(
            nn.Conv2d(3, 4, 16, stride=16),
            nn.Flatten(),
            nn.Linear(784, 6),
            nn.ReLU(),
            nn.Linear(6, 5),
        )
        images = torch.randn(num_images, 3, 224, 224)
    return Case("your model", model.eval(), "0", images, torch.ones(num_images).long())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("finish", "changes"),
    [
        (finish_with(by_min_max, rectify=lambda raw: raw), ("no ReLU", "min-max")),
        (
            lambda raw, size: by_maximum(resize(raw, size, ALIGNED).relu()),
            ("ReLU after resizing", "align_corners=True"),
        ),
    ],
)
def test_maps_of_a_photograph_are_compared_at_some_pixels(finish, changes):
    case = photograph_case()
    observation = observe(cam(finish=finish), case)
    assert len(compared_pixels(observation.maps)) < 600
    answer = find_formula(cam(finish=finish), [case])
    assert (answer.formula, answer.changes) == ("grad_cam", changes)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["smooth_grad", "smoothed_xgrad_cam", "smooth_grad_cam_pp"])
def test_a_formula_of_many_passes_is_found_on_photographs(name):
    method = plugins.load("method", name)
    answer = find_formula(of_method(method), [photograph_case(num_images=2)])
    assert (answer.formula, answer.changes) == (name, ())


@pytest.mark.slow
def test_weights_that_many_passes_give_may_be_averaged_over_photographs():
    method = plugins.load("method", "smooth_grad_cam_pp")

    def function(model, layer, images, targets):
        trace = cut(model, "0", output="logits").trace(images, targets)
        weights = method(trace).mean(0, keepdim=True)
        return Explanation.of(trace, weights.expand(2, -1, -1, -1)).required_heatmap

    answer = find_formula(function, [photograph_case(num_images=2)])
    assert answer.changes == ("weights averaged over the batch",)


@pytest.mark.slow
def test_formulas_of_many_passes_are_judged_by_one_photograph():
    """Maps of pixels aren't computed at all, since these maps are enlarged."""

    def unknown(activations, gradients):
        return grad_weights(activations, gradients) + 0.2 * gradients.square()

    lines = []
    answer = find_formula(cam(unknown), [photograph_case(num_images=2)], None, lines.append)
    assert answer.formula is None
    running = [line for line in lines if line.startswith("Running ")]
    assert "Running XGrad-CAM, smoothed on 1 image" in running
    assert not [line for line in running if "Occlusion" in line]


def test_constant_maps_tell_no_formula(networks):
    def constant(model, layer, images, targets):
        return torch.zeros(len(images), 4, 4)

    answer = find_formula(constant, networks[:1])
    assert answer.formula is None
    assert answer.verdict.startswith("gives only constant maps")


def of_method(method):
    """Return a method as an implementation, which makes its own cut and heatmap."""

    def function(model, layer, images, targets):
        layer_name = next(name for name, module in model.named_modules() if module is layer)
        trace = cut(model, layer_name, output="logits").trace(images, targets)
        return Explanation.of(trace, method(trace)).required_heatmap

    return function


def of_one_trace():
    """Return the methods that need no pass in addition to their trace, without controls."""
    names = []
    for name in plugins.names_of_all("method"):
        spec = plugins.load("method", name).spec
        if spec.passes == 0 and not spec.control:
            names.append(name)
    return names


QUICK_METHODS = ("grad_cam", "layer_cam", "xgrad_cam")
METHOD_NAMES = [
    name if name in QUICK_METHODS else pytest.param(name, marks=pytest.mark.slow)
    for name in of_one_trace()
]


@pytest.mark.slow
@pytest.mark.parametrize("name", METHOD_NAMES)
def test_no_false_alarm_on_a_method(networks, name):
    answer = find_formula(of_method(plugins.load("method", name)), networks, expected=name)
    assert (answer.status, answer.formula, answer.changes) == ("known", name, ())


# Public classes that compute a formula of this project, or a reading of it.
AGREEING = {
    "pytorch_grad_cam": {
        "GradCAM": "grad_cam",
        "GradCAMElementWise": "grad_cam_elementwise",
        "GradCAMPlusPlus": "grad_cam_pp",
        "HiResCAM": "hires_cam",
        "LayerCAM": "layer_cam",
        "XGradCAM": "xgrad_cam",
    },
    "torchcam": {
        "CAM": "cam",
        "GradCAM": "grad_cam",
        "GradCAMpp": "grad_cam_pp",
        "LayerCAM": "layer_cam",
        "XGradCAM": "xgrad_cam",
    },
    "captum": {"LayerGradCam": "grad_cam"},
}


def of_pytorch_grad_cam(name):
    import axiom_bench.data.torchvision_import  # noqa: F401 - the library imports torchvision

    library = pytest.importorskip("pytorch_grad_cam", reason="make peers")
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    def function(model, layer, images, targets):
        with getattr(library, name)(model=model, target_layers=[layer]) as extractor:
            chosen = [ClassifierOutputTarget(target) for target in targets.tolist()]
            return torch.from_numpy(extractor(input_tensor=images, targets=chosen))

    return function


def of_torchcam(name):
    import axiom_bench.data.torchvision_import  # noqa: F401 - the library imports torchvision

    pytest.importorskip("torchcam", reason="make peers")
    from torchcam import methods

    def function(model, layer, images, targets):
        layers = {"target_layer": layer}
        if name == "CAM":
            layers["fc_layer"] = "head.2"
        with getattr(methods, name)(model, **layers) as extractor:
            scores = model(images)
            return extractor(targets.tolist(), scores)[0]

    return function


def of_captum(name):
    pytest.importorskip("captum", reason="make peers")
    from captum import attr

    def function(model, layer, images, targets):
        return getattr(attr, name)(model, layer).attribute(images, target=targets)

    return function


MAKE = {
    "pytorch_grad_cam": of_pytorch_grad_cam,
    "torchcam": of_torchcam,
    "captum": of_captum,
}
READINGS = [
    pytest.param(library, name, key, marks=[] if name == "GradCAM" else pytest.mark.slow)
    for library, keys in AGREEING.items()
    for name, key in keys.items()
]


@pytest.mark.slow
@pytest.mark.parametrize(("library", "name", "key"), READINGS)
def test_no_false_alarm_on_a_library(networks, library, name, key):
    answer = find_formula(MAKE[library](name), networks, expected=key)
    assert (answer.status, answer.formula) == ("known", key), answer.verdict


def only_float32(function):
    """Return an implementation that refuses float64, as some libraries do."""

    def refusing(model, layer, images, targets):
        if images.dtype == torch.float64:
            raise RuntimeError("expected Float but found Double")
        return function(model, layer, images, targets)

    return refusing


@pytest.mark.slow
@pytest.mark.parametrize("name", ["raw", pytest.param("log_softmax_pp", marks=pytest.mark.slow)])
def test_an_implementation_for_float32_is_compared_on_all_networks(networks, name):
    made = ALL_MADE[name]
    answer = find_formula(only_float32(made.function), networks)
    assert answer.status == "known"
    assert is_named(answer, made.formula, made.changes), answer.verdict
    assert not answer.failures
    assert len(answer.float64_errors) == 9
