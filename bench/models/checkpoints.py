"""Read a checkpoint of transformers: its task, its network and its processor's preprocessing.

`model=huggingface model.checkpoint=...` asks for these (extra `transformers`).
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from axiom_bench.data.preprocessing import IMAGENET_MEAN, IMAGENET_STD, Preprocessing
from axiom_bench.environment import available_memory
from axiom_bench.errors import BenchError, unknown_name
from axiom_bench.kinds import home_expanded
from axiom_bench.models.of_transformers import (
    SIGMOID_CAPTIONS,
    Captioned,
    PatchTokens,
    QueryBoxes,
    QueryMaps,
    is_exclusive,
)
from axiom_bench.models.of_vision_language import TILES
from axiom_bench.models.words import WordScores

TIMM = "timm_wrapper"  # the type of timm's networks in transformers
BACKGROUND = "background"
CAPTIONS = "captions"  # the key of model.kwargs that names the classes of a CLIP
CAPTION_WORDS = "words"  # the key of model.kwargs that makes words of a CLIP's caption the classes
# The keys of model.kwargs for a network that says a text, as `WordScores` takes them.
TEXTS = ("prompt", "text", "length", "size")
DTYPE = "dtype"  # the key of model.kwargs that names the type of the weights
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
GIB = 2**30
HUB_TIMEOUT = 10  # seconds
DEFAULT_SIDE = 224
SIDE = 320  # pixels of the pictures that show what a processor does
DIGITS = 6  # of means and standard deviations
RESAMPLING = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic"}  # PIL's numbers
SUPPORTED = (
    "model=huggingface explains image classifiers, detectors such as DETR, segmenters such as "
    "SegFormer and Mask2Former, CLIP or SigLIP with captions, and networks such as LLaVA with a "
    "prompt"
)


@dataclass(frozen=True)
class Task:
    """A kind of network of transformers."""

    classes: re.Pattern[str]  # the names of its classes
    stretches: bool = False  # whether images are stretched, as for networks that find objects


CLASSIFIER = Task(re.compile(r"\w+ForImageClassification(WithTeacher)?"))
DETECTOR = Task(re.compile(r"\w+ForObjectDetection"), stretches=True)
SEGMENTER = Task(re.compile(r"\w+ForSemanticSegmentation"), stretches=True)
QUERY_SEGMENTER = Task(
    re.compile(r"\w+ForUniversalSegmentation|MaskFormerForInstanceSegmentation"), stretches=True
)
CAPTIONED = Task(re.compile(r"(CLIP|MetaClip2|Siglip)Model"))
SPEAKER = Task(re.compile(r"\w+ForConditionalGeneration|\w+ForImageTextToText"))
TASKS = (CLASSIFIER, DETECTOR, SEGMENTER, QUERY_SEGMENTER, CAPTIONED, SPEAKER)
OWN_CODE = "trust_remote_code"  # the argument that an error of transformers names
OTHER_INPUTS = {"input_ids", "task_inputs"}  # of networks that need a text for each image


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint of transformers before its weights are loaded."""

    name: str  # a name on the Hub, or a folder
    architecture: str  # the name of the network's class in transformers
    task: Task
    config: Any  # transformers' configuration of the network
    captions: tuple[str, ...] = ()  # the classes of a CLIP
    words: tuple[str, ...] = ()  # words of its only caption, which are the classes instead
    texts: Mapping[str, Any] = field(default_factory=dict)  # the arguments of `WordScores`
    dtype: torch.dtype = torch.float32  # the type of the weights

    @staticmethod
    def of(name: str, kwargs: Mapping[str, object]) -> Checkpoint:
        """Read a checkpoint's configuration.

        Args:
            name: A name on the Hub, whose cache is used if it has the files, or a folder.
            kwargs: The type of the weights, and changes of the configuration, such as num_labels.
                For a CLIP also the captions, or a caption and its words. For a network such as
                LLaVA also the prompt and the text.

        Raises:
            BenchError: if the files can't be loaded, or if the network isn't of one of TASKS.
        """
        dtype = str(kwargs.get(DTYPE) or "float32").removeprefix("torch.")
        if dtype not in DTYPES:
            raise unknown_name("model.kwargs.dtype", dtype, DTYPES)
        texts = {key: kwargs[key] for key in TEXTS if kwargs.get(key) is not None}
        ours = (CAPTIONS, CAPTION_WORDS, DTYPE, *TEXTS)
        changes = {key: value for key, value in kwargs.items() if key not in ours}
        config, unknown = _from_pretrained("AutoConfig", name, return_unused_kwargs=True, **changes)
        if unknown:
            raise BenchError(
                f"The configuration of {name} has no {next(iter(unknown))!r}; leave out "
                f"model.kwargs.{next(iter(unknown))}."
            )
        if config.model_type == TIMM:
            raise BenchError(
                f"{name} has a network of timm; set model={config.architecture} "
                "model.weights=FILE, its model.safetensors."
            )
        architecture = next(iter(config.architectures or ()), "")
        task = _task(name, architecture)
        captions = _texts(kwargs.get(CAPTIONS, ()))
        words = _texts(kwargs.get(CAPTION_WORDS, ()))
        if captions is None or (task is CAPTIONED) != bool(captions):
            raise _captions_error(name, task)
        if words is None or (words and not captions):
            raise _words_error(name, task)
        if (task is SPEAKER) != ("prompt" in texts):
            raise _prompt_error(name, task)
        return Checkpoint(
            name=name,
            architecture=architecture,
            task=task,
            config=config,
            captions=captions,
            words=words,
            texts=texts,
            dtype=DTYPES[dtype],
        )

    @property
    def output(self) -> str | None:
        """The value of model.output for this network; None if its logits are to be recognised."""
        if self.task is DETECTOR:
            return "exclusive_boxes" if is_exclusive(self.config) else "boxes"
        if self.task is SEGMENTER and self.config.num_labels == 1:  # trained with a sigmoid
            return "regions"
        if self.task in (SEGMENTER, QUERY_SEGMENTER):
            return "exclusive_regions"
        if self.task is SPEAKER:
            return "words"
        is_of_labels = self.config.problem_type == "multi_label_classification"
        is_of_sigmoids = self.config.model_type in SIGMOID_CAPTIONS
        has_sigmoids = is_of_labels or is_of_sigmoids or bool(self.words)
        return "multi_label" if has_sigmoids else None

    @property
    def background(self) -> int | None:
        """The output that is no class: the last one of a detector with a softmax, or the one that
        a segmenter calls background.
        """
        if self.output == "exclusive_boxes":
            return -1
        names = [str(name).lower() for name in self.config.id2label.values()]
        if self.output == "exclusive_regions" and BACKGROUND in names:
            return names.index(BACKGROUND)
        return None

    @property
    def reshape(self) -> PatchTokens | None:
        """The way from a layer's tokens to maps, if other tokens follow those of the patches."""
        if self.config.model_type != "yolos":
            return None
        side = self.config.patch_size
        patch = (side, side) if isinstance(side, int) else (side[0], side[1])
        return PatchTokens(patch, self.config.num_detection_tokens)

    def build(self, has_weights: bool) -> nn.Module:
        """Return the network, with the checkpoint's weights or with random ones.

        Raises:
            BenchError: if the weights can't be loaded, if some of them are missing, or if they
                don't fit into memory.
        """
        self._check_memory()
        if has_weights:
            network, loading = _from_pretrained(
                self.architecture,
                self.name,
                config=self.config,
                dtype=self.dtype,
                output_loading_info=True,
                ignore_mismatched_sizes=True,
            )
            if loading["mismatched_keys"]:
                tensor = sorted(loading["mismatched_keys"])[0][0]
                raise BenchError(
                    f"{self.name} has {tensor} of another shape than its configuration with "
                    "model.kwargs; leave out model.kwargs, or set model.weights=null for random "
                    "weights."
                )
            missing = sorted(loading["missing_keys"])
            if missing:
                raise BenchError(
                    f"{self.name} has no weights for {missing[0]} and {len(missing) - 1} others, "
                    "which would be random; choose a checkpoint that was trained for this task."
                )
        else:
            network = getattr(_transformers(), self.architecture)(self.config).to(self.dtype)
        if self.task is CAPTIONED:
            tokenizer = _from_pretrained("AutoTokenizer", self.name)
            return Captioned(network, tokenizer, self.captions, self.words)
        if self.task is DETECTOR:
            return QueryBoxes(network)
        if self.task is QUERY_SEGMENTER:
            return QueryMaps(network)
        if self.task is SPEAKER:
            processor = _from_pretrained("AutoProcessor", self.name)
            return WordScores(network, processor, **self.texts)
        module: nn.Module = network
        return module

    def _check_memory(self) -> None:
        """Raise BenchError if the weights take more memory than is free, before any is loaded."""
        free = available_memory()
        if free is None:
            return
        with torch.device("meta"):
            network = getattr(_transformers(), self.architecture)(self.config)
        count = sum(tensor.numel() for tensor in network.parameters())
        needed = count * self.dtype.itemsize
        if needed <= free:
            return
        half = count * torch.bfloat16.itemsize
        dtype_name = str(self.dtype).removeprefix("torch.")
        advice = "choose a smaller checkpoint, or a machine with more memory"
        if half <= free:
            advice = f"set model.kwargs.dtype=bfloat16, which takes {half / GIB:.1f} GiB"
        raise BenchError(
            f"{self.name} has {count / 1e9:.1f} billion parameters, which take "
            f"{needed / GIB:.1f} GiB in {dtype_name}, and {free / GIB:.1f} GiB of memory are free; "
            f"{advice}."
        )

    def preprocessing(self) -> tuple[Preprocessing, str]:
        """Return the preprocessing of the checkpoint's processor, and a note about it.

        The note is "" unless the processor is missing or does more than ours can.
        """
        try:
            processor = _from_pretrained("AutoImageProcessor", self.name)
        except BenchError:
            side = getattr(self.config, "image_size", DEFAULT_SIDE)
            sides = (side, side) if isinstance(side, int) else tuple(side)
            note = (
                "The checkpoint has no preprocessor_config.json, so images are resized to "
                f"{' x '.join(map(str, sides))} pixels, with ImageNet's mean and std; otherwise "
                "set model.resize, model.crop, model.mean and model.std."
            )
            return Preprocessing(sides, None, IMAGENET_MEAN, IMAGENET_STD), note
        size = self._size(processor)
        if size is not None:
            preprocessing = Preprocessing(
                resize=size,
                crop=None,
                mean=tuple(processor.image_mean),
                std=tuple(processor.image_std),
                interpolation=_interpolation(processor),
            )
            return preprocessing, ""
        mean, std = _mean_and_std(processor)
        candidates = []
        for resize, crop in _sizes(processor, self.task.stretches):
            candidates.append(Preprocessing(resize, crop, mean, std, _interpolation(processor)))
        for preprocessing in candidates:
            if _is_same(processor, preprocessing, self.task.stretches):
                return preprocessing, ""
        first = candidates[0]
        return first, (
            f"The checkpoint's {type(processor).__name__} gives other pixels than resize="
            f"{first.resize}, crop={first.crop}, its mean and its std. If it only resizes in "
            "another way, set model.resize and model.crop."
        )

    def _size(self, processor: Any) -> tuple[int, int] | None:
        """Return the height and width of images that a processor cuts into patches or tiles for a
        network of words; None for any other.
        """
        if self.task is not SPEAKER:
            return None
        # imported late: they need transformers
        from axiom_bench.models.of_patch_sequences import SIZE
        from axiom_bench.models.of_tiles import tiled_size

        given = self.texts.get("size")
        size = None if given is None else (given[0], given[1])
        is_of_patches = hasattr(processor, "temporal_patch_size")  # as of Qwen2-VL
        return (size or SIZE) if is_of_patches else tiled_size(processor, size)


def _task(name: str, architecture: str) -> Task:
    """Return the task of a network's class, or raise if it is none of TASKS."""
    network = getattr(_transformers(), architecture, None)
    for task in TASKS:
        if network is None or not task.classes.fullmatch(architecture):
            continue
        takes_texts = OTHER_INPUTS & {*inspect.signature(network.forward).parameters}
        if task in (CAPTIONED, SPEAKER) or not takes_texts:
            return task
    if not architecture:
        advice = "its config.json names no architecture; save the network by save_pretrained."
    elif architecture.endswith("Model"):
        advice = "it has no classes; choose a checkpoint that was trained for one of these."
    else:
        advice = (
            "for another network, write a function that builds it, and set model=user "
            "model.architecture=net.py:build."
        )
    raise BenchError(f"{name} is a {architecture or 'network'}. {SUPPORTED}; {advice}")


def _prompt_error(name: str, task: Task) -> BenchError:
    """Return the error for a missing prompt, or for that of a network that says no text."""
    if task is SPEAKER:
        return BenchError(
            f"{name} needs a prompt: set \"model.kwargs.prompt='What is on the table?'\" "
            "(`axiom-bench explain --prompt TEXT`)."
        )
    return BenchError(f"{name} says no text about an image; leave out the prompt.")


def _captions_error(name: str, task: Task) -> BenchError:
    """Return the error for missing captions, or for those of a network that takes none."""
    if task is CAPTIONED:
        return BenchError(
            f"{name} needs captions, which are its classes: set "
            '"model.kwargs.captions=[a cat,a dog]".'
        )
    return BenchError(f"{name} has classes of its own; leave out model.kwargs.captions.")


def _words_error(name: str, task: Task) -> BenchError:
    """Return the error for words of a caption in another form, or for those without a caption."""
    if task is CAPTIONED:
        return BenchError(
            'model.kwargs.words is a list: set "model.kwargs.words=[cat]", or leave it out.'
        )
    return BenchError(f"{name} takes no caption; leave out model.kwargs.words.")


def _texts(given: object) -> tuple[str, ...] | None:
    """Return the texts of a list; None for a value of another kind."""
    if isinstance(given, str) or not isinstance(given, Sequence):
        return None
    return tuple(map(str, given))


def _mean_and_std(processor: Any) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return the mean and the standard deviation by which a processor normalises pixels in [0, 1].

    They are those that a black and a white picture show, because classes of processors have several
    settings that change them.
    """
    black, white = (
        _pixels(processor, Image.new("RGB", (SIDE, SIDE), colour)).amax((1, 2))
        for colour in ("black", "white")
    )
    std = 1 / (white.double() - black)
    mean = 0 - black * std
    return tuple(mean.round(decimals=DIGITS).tolist()), tuple(std.round(decimals=DIGITS).tolist())


def _pixels(processor: Any, picture: Image.Image) -> Tensor:
    """Return the pixels (3, H, W) of a picture that a processor doesn't cut into tiles."""
    settings = {name: False for name in TILES if hasattr(processor, name)}
    pixels: Tensor = processor(images=picture, return_tensors="pt", **settings)["pixel_values"]
    return pixels.reshape(-1, *pixels.shape[-3:])[0]


def _sizes(
    processor: Any, stretches: bool
) -> list[tuple[int | tuple[int, int] | None, int | None]]:
    """Return pairs of a resize and a crop, as `Preprocessing` takes them, of which one may be the
    processor's.

    Classes of processors read the same settings in several ways. An image of another aspect ratio
    is stretched if `stretches`.
    """
    largest = _mapping(getattr(processor, "max_image_size", None)).get("longest_edge")
    if largest is not None:  # Idefics3 and SmolVLM stretch an image that they don't cut into tiles
        return [((largest, largest), None)]
    size = _mapping(processor.size)
    crop_size = _mapping(getattr(processor, "crop_size", None))
    crop = crop_size.get("height") if getattr(processor, "do_center_crop", False) else None
    if not getattr(processor, "do_resize", True):
        return [(None, crop)]
    if "height" in size:
        return [((size["height"], size["width"]), crop)]
    side = size.get("shortest_edge") or size.get("longest_edge") or DEFAULT_SIDE
    if stretches:
        return [((side, side), None)]
    crop_share = getattr(processor, "crop_pct", None) or 1
    return [
        (side, crop),
        (int(side / crop_share), side),  # ConvNeXT, below 384 pixels
        ((side, side), None),  # ConvNeXT, from 384 pixels on
        (int(side * 256 / 224), crop),  # LeViT
    ]


def _mapping(size: Any) -> dict[str, int]:
    """Return a size of a processor, which may be a number, as a dict without missing sides."""
    if size is None:
        return {}
    if isinstance(size, int):
        return {"height": size, "width": size}
    return {key: int(value) for key, value in dict(size).items() if value}


def _interpolation(processor: Any) -> str:
    """Return the name of a processor's interpolation."""
    resample = getattr(processor, "resample", 2)
    value = getattr(resample, "value", resample)  # of an enumeration of PIL's or torchvision's
    return value if isinstance(value, str) else RESAMPLING.get(int(value), "bilinear")


def _is_same(processor: Any, preprocessing: Preprocessing, is_square: bool) -> bool:
    """Return whether a processor and a preprocessing give nearly the same pixels of a picture."""
    height, width = (SIDE, SIDE) if is_square else (SIDE, SIDE * 3 // 4)
    rows, columns = np.mgrid[0:height, 0:width]
    channels = (255 * rows / height, 255 * columns / width, 255 * (1 - rows / height))
    picture = Image.fromarray(np.stack(channels, 2).astype(np.uint8))
    theirs = _pixels(processor, picture)
    ours = preprocessing(picture)
    if theirs.shape != ours.shape:
        return False
    # Centre crops may start at one or the other of two pixels, and resizes round differently.
    one_pixel = 1 / (min(ours.shape[1:]) * min(preprocessing.std))
    return float((theirs - ours).abs().mean()) < one_pixel


def _transformers() -> Any:
    """Import transformers, which needs torchvision and takes seconds."""
    import axiom_bench.data.torchvision_import  # noqa: F401

    try:
        import transformers
    except ImportError as error:
        raise BenchError(
            "Networks of transformers need it: pip install '.[transformers]' in axiom-bench's "
            "checkout."
        ) from error
    transformers.utils.logging.disable_progress_bar()
    transformers.utils.logging.set_verbosity_error()
    return transformers


def _from_pretrained(kind: str, name: str, **kwargs: object) -> Any:
    """Return what a class of transformers loads from a checkpoint, whose own code isn't run.

    The Hub is asked only if neither a folder nor the cache has the files.
    """
    # otherwise transformers asks on the terminal whether it may run the code
    if kind.startswith("Auto"):
        kwargs["trust_remote_code"] = False
    load = partial(getattr(_transformers(), kind).from_pretrained, **kwargs)
    folder = home_expanded(name)
    if name.startswith("timm/"):
        raise BenchError(f"{name} is a network of timm; set model={name.removeprefix('timm/')}.")
    is_folder = folder.is_dir()
    try:
        return load(str(folder) if is_folder else name, local_files_only=True)
    except ImportError as error:  # a processor may need a package of its own
        reason = str(error).strip().splitlines()[0]
        raise BenchError(f"{name} can't be loaded: {reason}") from error
    except (OSError, ValueError) as error:
        if OWN_CODE in str(error):
            raise _own_code_error(name) from error
        if is_folder:
            raise BenchError(
                f"{name} can't be read as a checkpoint of transformers "
                f"({str(error).splitlines()[0]}); set model.checkpoint to a folder that "
                "save_pretrained wrote."
            ) from error
    try:
        # One request: transformers itself would ask five times more, for half a minute.
        _hub().model_info(name, timeout=HUB_TIMEOUT)
        return load(name)
    except Exception as error:  # the HTTP library of the Hub's client differs by its version
        if OWN_CODE in str(error):
            raise _own_code_error(name) from error
        raise _hub_error(name, error) from error


def _own_code_error(name: str) -> BenchError:
    """Return the error for a checkpoint that needs code of its own."""
    return BenchError(
        f"The checkpoint {name} needs code of its own, which isn't run; set model.checkpoint to "
        "one for transformers' own classes, as OpenGVLab/InternVL3-1B-hf is. An image classifier "
        "with such code can be loaded in Python, and given to ab.explain."
    )


def _hub_error(name: str, error: BaseException) -> BenchError:
    """Return the error for a checkpoint that the Hub doesn't give, with the step for its reason."""
    from huggingface_hub import errors

    reason = str(error).splitlines()[0] if str(error) else type(error).__name__
    cause: BaseException | None = error
    while cause is not None:  # transformers raises errors of its own from those of the Hub's client
        if isinstance(cause, errors.GatedRepoError):
            return BenchError(
                f"{name} is gated: its owners decide who may download it. Ask for access at "
                f"https://huggingface.co/{name}, and type `hf auth login`."
            )
        if isinstance(cause, errors.RepositoryNotFoundError):
            return BenchError(
                f"The Hugging Face Hub has no model {name}, or it is private; correct "
                "model.checkpoint, or type `hf auth login` if you may see it."
            )
        is_local = isinstance(
            cause, errors.LocalEntryNotFoundError
        )  # the cache lacks it, no network
        if isinstance(cause, errors.EntryNotFoundError) and not is_local:
            return BenchError(
                f"{name} lacks a file of a checkpoint of transformers ({reason}); set "
                "model.checkpoint to one with config.json and weights."
            )
        if isinstance(cause, errors.OfflineModeIsEnabled):
            return BenchError(
                f"{name} isn't in the cache of Hugging Face, and HF_HUB_OFFLINE forbids a "
                "download; type `unset HF_HUB_OFFLINE`, or set model.checkpoint=FOLDER."
            )
        cause = cause.__cause__ or cause.__context__
    return BenchError(
        f"{name} isn't in the cache of Hugging Face and can't be downloaded ({reason}). On a "
        f"computer with internet access, type `hf download {name} --local-dir FOLDER`; then set "
        "model.checkpoint=FOLDER."
    )


def _hub() -> Any:
    """Return a client of the Hugging Face Hub, which transformers needs itself."""
    from huggingface_hub import HfApi

    return HfApi()
