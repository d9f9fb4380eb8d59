"""Measure the memory of explaining words of vision-language models of public sizes.

    PYTHONPATH=. python scripts/measure_speakers.py [FAMILY ...] [--side PIXELS] [--blocks N M]

Networks with the dimensions of a public checkpoint and random weights in bfloat16 read random
pixels, and the five words of a given text are traced with all checks. Each network runs in a
process of its own. A pass of a whole network takes long on a processor. So the tower and the
decoder have N and then M blocks, and the memory of the whole network is extrapolated from both.
`--blocks 0` runs the whole network instead.

A printed row has the family, the checkpoint, billions of parameters, the grid, the channels and the
name of the layer, the passes without the checks (trunk, head, backward), GiB of the weights, GiB of
the process, and the cost of the first trace with its checks in plain passes.
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

import axiom_bench as ab
from tests import vision_language

TEXT = " a cat on a mat"
TILED = ("llava_onevision",)  # families that read an image as tiles
GIB = 2**30
KIB = 1024


@dataclass(frozen=True)
class Size:
    """The dimensions of a public checkpoint."""

    checkpoint: str
    vision: Mapping[str, object]
    text: Mapping[str, object]
    others: Mapping[str, object]


def vision(hidden: int, inner: int, layers: int, **others: object) -> dict[str, object]:
    """Return the settings of a vision tower with 16 heads."""
    return {
        "hidden_size": hidden,
        "intermediate_size": inner,
        "num_hidden_layers": layers,
        "num_attention_heads": 16,
        **others,
    }


def text(
    hidden: int,
    inner: int,
    layers: int,
    heads: int,
    key_heads: int,
    vocabulary: int,
    **others: object,
) -> dict[str, object]:
    """Return the settings of a decoder."""
    return {
        "hidden_size": hidden,
        "intermediate_size": inner,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": key_heads,
        "vocab_size": vocabulary,
        "initializer_range": 0.02,
        "max_position_embeddings": 8192,
        **others,
    }


QWEN_HALF = text(896, 4864, 24, 14, 2, 151936, tie_word_embeddings=True)
QWEN_TWO = text(1536, 8960, 28, 12, 2, 151936, tie_word_embeddings=True)
ROPE = {"rope_type": "default", "mrope_section": [16, 24, 24], "rope_theta": 1000000.0}
SIZES = {
    "blip": Size(
        "Salesforce/blip-image-captioning-base",
        vision(768, 3072, 12, num_attention_heads=12, patch_size=16),
        {
            "hidden_size": 768,
            "intermediate_size": 3072,
            "num_hidden_layers": 12,
            "num_attention_heads": 12,
            "encoder_hidden_size": 768,
            "vocab_size": 30524,
        },
        {},
    ),
    "llava": Size(
        "CLIP ViT-L/14 and Qwen2.5-0.5B",
        vision(1024, 4096, 24),
        {"model_type": "qwen2", **QWEN_HALF},
        {"tie_word_embeddings": True},
    ),
    "llava_onevision": Size(
        "llava-hf/llava-onevision-qwen2-0.5b-ov-hf",
        vision(1152, 4304, 26),
        QWEN_HALF,
        {"tie_word_embeddings": True},
    ),
    "internvl": Size(
        "OpenGVLab/InternVL3-2B-hf",
        vision(1024, 4096, 24),
        QWEN_TWO,
        {"tie_word_embeddings": True},
    ),
    "idefics3": Size(
        "HuggingFaceTB/SmolVLM-500M-Instruct",
        vision(768, 3072, 12, num_attention_heads=12, patch_size=16),
        text(960, 2560, 32, 15, 5, 49280, head_dim=64),
        {"scale_factor": 4},
    ),
    "blip2": Size(
        "Salesforce/blip2-opt-2.7b",
        vision(1408, 6144, 39),
        {
            "hidden_size": 2560,
            "word_embed_proj_dim": 2560,
            "ffn_dim": 10240,
            "num_hidden_layers": 32,
            "num_attention_heads": 32,
            "vocab_size": 50304,
            "max_position_embeddings": 2048,
            "init_std": 0.02,
        },
        {
            "num_query_tokens": 32,
            "qformer_config": {
                "hidden_size": 768,
                "encoder_hidden_size": 1408,
                "intermediate_size": 3072,
                "num_hidden_layers": 12,
                "num_attention_heads": 12,
            },
        },
    ),
    "paligemma": Size(
        "google/paligemma-3b-pt-448",
        vision(1152, 4304, 27),
        text(2048, 16384, 18, 8, 1, 257216, head_dim=256, tie_word_embeddings=True),
        {"projection_dim": 2048, "tie_word_embeddings": True},
    ),
    "qwen2_vl": Size(
        "Qwen/Qwen2-VL-2B-Instruct",
        {"depth": 32, "embed_dim": 1280, "hidden_size": 1536, "mlp_ratio": 4, "num_heads": 16},
        {**QWEN_TWO, "rope_parameters": ROPE},
        {"tie_word_embeddings": True},
    ),
    "qwen2_5_vl": Size(
        "Qwen/Qwen2.5-VL-3B-Instruct",
        {
            "depth": 32,
            "hidden_size": 1280,
            "out_hidden_size": 2048,
            "intermediate_size": 3420,
            "num_heads": 16,
            "window_size": 112,
            "fullatt_block_indexes": [7, 15, 23, 31],
        },
        {**text(2048, 11008, 36, 16, 2, 151936), "rope_parameters": ROPE},
        {"tie_word_embeddings": True},
    ),
    "qwen3_vl": Size(
        "Qwen/Qwen3-VL-2B-Instruct",
        {
            "depth": 24,
            "hidden_size": 1024,
            "out_hidden_size": 2048,
            "intermediate_size": 4096,
            "num_heads": 16,
            "patch_size": 16,
            "deepstack_visual_indexes": [5, 11, 17],
            "num_position_embeddings": 2304,
        },
        {
            **text(2048, 6144, 28, 16, 8, 151936, head_dim=128),
            "rope_parameters": {**ROPE, "mrope_section": [24, 20, 20]},
        },
        {"tie_word_embeddings": True},
    ),
}


@dataclass(frozen=True)
class Measured:
    """The costs of tracing the words of a text."""

    blocks: int  # of the decoder
    grid: str
    channels: int
    passes: tuple[int, int, int]  # of the trunk, of the head, and backward
    weights: float  # GiB
    memory: float  # GiB at most of the process
    first: float  # the first trace with its checks, in plain passes


def parts(family: str, side: int, blocks: int) -> tuple[Callable[[Any], nn.Module], Any, Any]:
    """Return a family's network class, the configuration of its checkpoint, and a processor.

    Args:
        family: The family.
        side: The pixels of an image's side.
        blocks: The blocks of the tower and of the decoder; 0: those of the checkpoint.
    """
    tiny, processor = getattr(vision_language, family)(side)
    size = SIZES[family]
    settings = {**tiny.config.to_dict(), **size.others}
    settings["vision_config"] |= size.vision
    settings["text_config"] |= size.text
    for name in ("layer_types", "head_dim", "rope_parameters"):
        if name not in size.text:
            settings["text_config"].pop(name, None)
    if blocks:
        settings["text_config"]["num_hidden_layers"] = blocks
        tower = settings["vision_config"]
        depth = "depth" if "depth" in size.vision else "num_hidden_layers"
        for name in ("fullatt_block_indexes", "deepstack_visual_indexes"):
            if name in size.vision:
                tower[name] = [index * blocks // tower[depth] for index in tower[name]]
        tower[depth] = blocks
    config = type(tiny.config)(**settings)
    if hasattr(processor.image_processor, "patch_size"):
        processor.image_processor.patch_size = config.vision_config.patch_size
    if "scale_factor" in size.others:
        cells = side // config.vision_config.patch_size // config.scale_factor
        processor.image_seq_len = cells**2
    if "num_query_tokens" in size.others:
        processor.num_query_tokens = config.num_query_tokens
    return type(tiny), config, processor


def measure(family: str, side: int, blocks: int) -> Measured:
    """Trace the words of a text with a network of so many blocks."""
    network_class, config, processor = parts(family, side, blocks)
    standard = torch.get_default_dtype()
    torch.set_default_dtype(torch.bfloat16)
    try:
        network = network_class(config).eval().bfloat16()
    finally:
        torch.set_default_dtype(standard)
    size = (side, side) if family in TILED else None
    scores = ab.WordScores(network, processor, "What is this?", text=TEXT, size=size)
    layer = scores.default_layer
    cut_model = ab.cut(scores, layer, reshape="tokens")
    images = torch.rand(1, 3, side, side, generator=torch.Generator().manual_seed(0))

    start = time.perf_counter()
    (words,) = scores.found(images, 0)
    one_pass = time.perf_counter() - start
    rows = images.expand(len(words), -1, -1, -1)
    places = torch.stack([word.place for word in words])
    targets = torch.tensor([word.label for word in words])
    start = time.perf_counter()
    trace = cut_model.trace((rows, places), targets)
    first = (time.perf_counter() - start) / one_pass
    passes = cut_model.passes
    return Measured(
        blocks=config.get_text_config().num_hidden_layers,
        grid=" x ".join(str(side) for side in trace.activations.shape[2:]),
        channels=trace.activations.shape[1],
        passes=(passes.trunk_forward, passes.head_forward, passes.head_backward),
        weights=sum(tensor.nbytes for tensor in network.parameters()) / GIB,
        memory=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * KIB / GIB,
        first=first,
    )


def whole_memory(measured: Sequence[Measured], weights: float, blocks: int) -> float:
    """Return the GiB of a network with more blocks than the two measured ones.

    Only the decoder runs with its gradients, so each of its blocks adds the same activations.
    """
    small, large = measured
    without_weights = [each.memory - each.weights for each in (small, large)]
    each_block = (without_weights[1] - without_weights[0]) / (large.blocks - small.blocks)
    return weights + without_weights[0] + each_block * (blocks - small.blocks)


def row(family: str, side: int, numbers: Sequence[int]) -> str:
    """Measure a family, and return its row of the table."""
    context = multiprocessing.get_context("spawn")
    measured = []
    for blocks in numbers:
        with ProcessPoolExecutor(1, context) as executor:  # so that each has memory of its own
            measured.append(executor.submit(measure, family, side, blocks).result())
    network_class, config, processor = parts(family, side, 0)
    with torch.device("meta"):
        network = network_class(config)
    layer = ab.WordScores(network, processor, "").default_layer
    for _ in range(2):  # the wrappers of the words and of the processor's inputs
        layer = layer.removeprefix("module.")
    parameters = sum(tensor.numel() for tensor in network.parameters())
    weights = parameters * torch.bfloat16.itemsize / GIB
    last = measured[-1]
    memory = last.memory
    if len(measured) > 1:
        blocks = config.get_text_config().num_hidden_layers
        memory = whole_memory(measured, weights, blocks)
    cells = [
        family,
        SIZES[family].checkpoint,
        f"{parameters / 1e9:.2f}",
        last.grid,
        str(last.channels),
        f"`{layer}`",
        ", ".join(map(str, last.passes)),
        f"{weights:.1f}",
        f"{memory:.1f}",
        f"{last.first:.0f}",
    ]
    return f"| {' | '.join(cells)} |"


def main(argv: Sequence[str] | None = None) -> int:
    """Print a row for each family. Return the exit code."""
    parser = argparse.ArgumentParser(description="Measure vision-language models of public sizes.")
    parser.add_argument("families", nargs="*", metavar="FAMILY")
    parser.add_argument("--side", type=int, default=448, help="pixels of images")
    parser.add_argument("--blocks", type=int, nargs="+", default=[4, 8])
    options = parser.parse_args(argv)
    for family in options.families or SIZES:
        print(row(family, options.side, options.blocks), flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
