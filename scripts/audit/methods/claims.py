"""What the page says of each case: both readings, the library's own words, and the photographs that show it."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import distribution
from pathlib import Path
from typing import Literal

Kind = Literal["documented choice", "other reading", "defect"]


@dataclass(frozen=True)
class Quotation:
    """Words of an installed distribution's file, white space and comment signs aside."""

    distribution: str
    file: str
    words: str

    @property
    def line(self) -> int | None:
        """The line of the file where the words begin, from 1 on; None where this version hasn't got them."""
        lines = [line.strip().lstrip("#") for line in self._path.read_text().splitlines()]
        holds = [self._words in " ".join(" ".join(lines[start : start + 12]).split()) for start in range(len(lines))]
        last_before = (start for start, here in enumerate(holds) if here and not any(holds[start + 1 : start + 2]))
        return next((start + 1 for start in last_before), None)

    @property
    def _words(self) -> str:
        return " ".join(self.words.split())

    @property
    def _path(self) -> Path:
        """The file; METADATA is the distribution's description on PyPI."""
        installed = distribution(self.distribution)
        if self.file != "METADATA":
            return Path(str(installed.locate_file(self.file)))
        (path,) = (file for file in installed.files or () if file.name == "METADATA")
        return Path(str(path.locate()))

    def __str__(self) -> str:
        place = "not in this version" if self.line is None else f"`{self.file}`, line {self.line}"
        return f'"{self._words}" ({place})'


@dataclass(frozen=True)
class Claim:
    """What the page says of a case, beside its claim, code and output.

    kind: "documented choice" where the library's documentation or source says so; "other reading" where the paper
    leaves it open or can be read so; "defect" where the result isn't what the library's own documentation or the paper
    says, depends on what it shouldn't, or something stays on the model. ours: this project's reading, with the paper's
    formula. documented: the library's own words. pairs: whose photographs show it. measure: a name of
    `cases_of_photographs.MEASURES`. Without either it doesn't depend on the image.
    """

    kind: Kind
    ours: str
    documented: tuple[Quotation, ...] = ()
    pairs: tuple[str, ...] = ()
    measure: str = ""


def _grad_cam(file: str, words: str) -> Quotation:
    return Quotation("grad-cam", file if file == "METADATA" else f"pytorch_grad_cam/{file}", words)


def _torchcam(file: str, words: str) -> Quotation:
    return Quotation("torchcam", f"torchcam/methods/{file}", words)


def _captum(file: str, words: str) -> Quotation:
    return Quotation("captum", f"captum/attr/_core/{file}", words)


SCORE_CAM = (
    "w_k = softmax_k(f(X H_k) - f(X_0)), H_k = s(U(F_k)), s min-max scaling, U resizing (Score-CAM, Algorithm 1)"
)
ALPHA = "alpha = g^2 / (2 g^2 + g^3 sum(F_k)) (Grad-CAM++, equation 19)"
CLAIMS: dict[str, Claim] = {
    "both_constant_map": Claim(
        "other reading",
        "heatmap = relu(map) / its maximum: a constant positive map is 1. Papers have the ReLU alone.",
        (_torchcam("core.py", "normalized: whether the CAM should be normalized"),),
        ("grad_cam@pytorch_grad_cam", "grad_cam@torchcam"),
    ),
    "both_in_place": Claim(
        "defect",
        "The layer's output is what the layer returned, whatever the next module does to the memory.",
        (_torchcam("gradient.py", "Trick to avoid issues with inplace operations"),),
        measure="in_place",
    ),
    "both_xgrad_cancelling": Claim(
        "other reading",
        "w_k = sum(g F) / sum(F) (XGrad-CAM), 0 where |sum F| <= tol sum |F|; the paper has no guard.",
        (),
        ("xgrad_cam@pytorch_grad_cam", "xgrad_cam@torchcam"),
    ),
    "captum_deep_lift_pools": Claim(
        "defect",
        "Contributions add up to f(x) - f(x_0) (DeepLIFT's summation to delta), whatever the windows.",
        (
            _captum(
                "deep_lift.py",
                "Note that the logic described for deltas is guaranteed when the default logic for attribution "
                "computations is used, meaning that the `custom_attribution_func=None`",
            ),
        ),
        measure="deep_lift_pools",
    ),
    "captum_functional_relu": Claim(
        "documented choice",
        "Guided backpropagation acts on every ReLU, module or function.",
        (
            _captum(
                "guided_backprop_deconvnet.py",
                "If nn.functional.ReLU is used, gradients are not overridden appropriately.",
            ),
        ),
    ),
    "captum_guided_interpolation": Claim(
        "documented choice",
        "Guided gradient times Grad-CAM's map, enlarged bilinearly, as in the paper.",
        (
            _captum(
                "guided_grad_cam.py",
                'Note that the original GradCAM paper uses "bilinear" interpolation, but we default to "nearest" for '
                "applicability to any of 3D, 4D or 5D tensors.",
            ),
        ),
        ("guided_grad_cam@captum",),
    ),
    "grad_cam_ablation_batch": Claim(
        "defect",
        "w_k = (S - S_k) / S, S_k the score with F_k = 0 (Ablation-CAM): no batch in it.",
        pairs=("ablation_cam@pytorch_grad_cam",),
    ),
    "grad_cam_ablation_value": Claim(
        "documented choice",
        "w_k = (S - S_k) / S, S_k the score with F_k = 0, whatever the layer's minimum (Ablation-CAM). The same "
        "behind a ReLU.",
        (
            _grad_cam(
                "ablation_layer.py",
                "If the values can be negative, we use very negative values to perform the ablation, deviating from "
                "the paper.",
            ),
        ),
        ("ablation_cam@pytorch_grad_cam",),
    ),
    "grad_cam_ablation_exception": Claim(
        "defect",
        "The user's model is never edited.",
        (
            _grad_cam(
                "ablation_cam.py",
                "When we finish, we will replace it back, so the original model is unchanged.",
            ),
        ),
    ),
    "grad_cam_ablation_memory": Claim("defect", "Nothing outlives the call."),
    "grad_cam_eigen_centred": Claim(
        "documented choice",
        "F V_1, V_1 the first right singular vector of F itself (Eigen-CAM: L = O V_1, O = U S V^T). Eigen-Grad-CAM "
        "and Seg-Eigen-CAM are held against the same projection, of g F and |g| F; the one has no paper, and of the "
        "other's only the equations that the library quotes were at hand.",
        (
            _grad_cam(
                "utils/svd_on_activations.py",
                "Centering before the SVD seems to be important here, Otherwise the image returned is negative",
            ),
        ),
        ("eigen_cam@pytorch_grad_cam", "eigen_grad_cam@pytorch_grad_cam", "seg_eigen_cam@pytorch_grad_cam"),
    ),
    "grad_cam_eigen_sign": Claim(
        "other reading",
        "The sign is the one with sum_k v_k > 0, which doesn't depend on the order of channels; the paper gives none.",
        (
            _grad_cam(
                "utils/svd_on_activations.py",
                "decomposing A = U Σ Vᵀ is equivalent to (-U) Σ (-Vᵀ), so the sign of the resulting projection is "
                "arbitrary.",
            ),
        ),
        measure="eigen_sign",
    ),
    "grad_cam_fem_weights": Claim(
        "other reading",
        "sum_k mean(F_k) [F_k > mean + 2 deviations]: binary maps, weighted by their channel's mean.",
        (
            _grad_cam(
                "METADATA",
                "A gradient free method that binarizes activations by an activation > mean + k * std rule.",
            ),
        ),
        ("fem@pytorch_grad_cam",),
    ),
    "grad_cam_finer_weights": Claim(
        "documented choice",
        "Grad-CAM of S_c - gamma mean_d S_d, gamma 0.6 and 3 classes, as in the paper, and in its authors' code until "
        "11 March 2025; since then that code has alpha = 1 and the weights that grad-cam has.",
        (
            _grad_cam(
                "utils/model_targets.py",
                "It obtains a weight for each comparison category from the softmax probabilities of the model output",
            ),
            _torchcam("gradient.py", "gamma: comparison strength applied to the mean reference score"),
        ),
        ("finer_cam@pytorch_grad_cam", "finer_cam@torchcam"),
    ),
    "grad_cam_full_grad_channels": Claim(
        "other reading",
        "psi scales a layer's bias gradients as a whole, as in the authors' code (`_postProcess`); the paper's formula "
        "sums psi over channels, which can be read as grad-cam does.",
        (_grad_cam("METADATA", "Computes the gradients of the biases from all over the network, and then sums them"),),
        ("full_grad@pytorch_grad_cam",),
    ),
    "grad_cam_guided_relus": Claim("defect", "The user's model is never edited."),
    "grad_cam_kpca_sign": Claim(
        "other reading",
        "The sign by which the map correlates positively with sum_k F_k; the paper gives none.",
        (
            Quotation(
                "scikit-learn", "sklearn/utils/extmath.py", "Sign correction to ensure deterministic output from SVD."
            ),
        ),
        ("kpca_cam@pytorch_grad_cam",),
    ),
    "grad_cam_pp_epsilon": Claim(
        "defect",
        f"{ALPHA}, 0 where 0/0.",
        (_grad_cam("grad_cam_plusplus.py", "Equation 19 in https://arxiv.org/abs/1710.11063"),),
        ("grad_cam_pp@pytorch_grad_cam",),
    ),
    "grad_cam_reused_layer": Claim("other reading", "The module's last call, as torchcam and captum."),
    "grad_cam_score_cam_corners": Claim(
        "other reading",
        f"{SCORE_CAM}; align_corners=False, as in the authors' code; a constant channel is left out, there a mask of "
        "zeros.",
        (),
        ("score_cam@pytorch_grad_cam",),
    ),
    "grad_cam_shapley_release": Claim(
        "defect", "The map is the same; leaving `with` raises nothing and leaves no hook."
    ),
    "grad_cam_swallowed_error": Claim(
        "documented choice",
        "An error in a block reaches the caller.",
        (_grad_cam("base_cam.py", "An exception occurred in CAM with block"),),
    ),
    "grad_cam_user_gradients": Claim("defect", "Mode and gradients of the user's model stay as they are."),
    "torchcam_cam_hooks": Claim(
        "defect",
        "Nothing is left on a model that is refused.",
        (_torchcam("activation.py", "This CAM method does not support multiple fully connected layers."),),
    ),
    "torchcam_grad_cam_pp_alpha": Claim(
        "defect",
        f"w_k = sum(alpha relu(g)), {ALPHA}.",
        (
            _torchcam("gradient.py", r"\sum\limits_{a,b} A_k (a,b) \cdot"),
            _torchcam("gradient.py", "div_(d[mask] + eps)"),
        ),
        ("grad_cam_pp@torchcam",),
    ),
    "torchcam_hidden_nan": Claim(
        "other reading",
        "NaN activations give a NaN map, with a status.",
        (_torchcam("core.py", "cam = torch.nansum(weight * activation, dim=1)"),),
    ),
    "torchcam_is_cam_strengths": Claim(
        "documented choice",
        "The mean over i = 1..N of f(i/N X H_k), our reading of the paper's integral. torchcam's docstring sums j / N "
        "over j = 0..i - 1, its code over j = 1..i.",
        (_torchcam("activation.py", r"M_i = \sum\limits_{j=0}^{i-1} \frac{j}{N}"),),
        ("is_cam@torchcam",),
    ),
    "torchcam_noise": Claim(
        "other reading",
        "Noise is drawn for each image, from its pixels and a seed.",
        (_torchcam("gradient.py", "std: standard deviation of the noise"),),
    ),
    "torchcam_score_cam_order": Claim(
        "defect",
        f"{SCORE_CAM}; a constant channel is left out, there a mask of zeros.",
        (_torchcam("activation.py", r"M_k = \frac{U(A_k) - \min\limits_m U(A_m)}"),),
        ("score_cam@torchcam", "ss_cam@torchcam", "is_cam@torchcam"),
    ),
    "torchcam_small_maps": Claim(
        "documented choice",
        "relu(map) / its maximum, with no epsilon; a map of zeros stays.",
        (_torchcam("core.py", "Avoid division by zero"),),
        ("grad_cam@torchcam",),
    ),
    "torchcam_smooth_grad_cam_pp_sum": Claim(
        "defect",
        "alpha = D2 / (2 D2 + D3 sum(F_k)), D2 and D3 the means of g^2 and g^3 (Smooth Grad-CAM++, with Grad-CAM++'s "
        "numerator, as torchcam).",
        (
            _torchcam(
                "gradient.py",
                r"\frac{2}{n} \sum\limits_{m=1}^n D^{(c, 2)}_k(i, j) + \sum\limits_{a,b} A_k (a,b) \cdot \frac{1}{n} "
                r"\sum\limits_{m=1}^n D^{(c, 3)}_k(i, j)}",
            ),
        ),
        ("smooth_grad_cam_pp@torchcam",),
    ),
}
