"""Measure the memory and time of explaining words of vision-language models of public sizes.

    PYTHONPATH=. python scripts/measure_speakers.py [FAMILY ...] [--side PIXELS] [--dtype TYPE]

Each family runs in a process of its own: a network with the dimensions of a public checkpoint and
random weights reads a gray image. A text of five words is explained by Grad-CAM and LayerCAM. The
printed row has the grid, the layer, the passes of the tower and of the decoder, the time, and the
largest memory of the process.
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

import axiom_bench as ab
from tests import vision_language

TEXT = " a cat on a mat"
METHODS = ["grad_cam", "layer_cam"]
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
    hidden: int, inner: int, layers: int, heads: int, key_heads: int, vocabulary: int, **others: object
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


def network_of(family: str, side: int, dtype: torch.dtype) -> tuple[nn.Module, Any]:
    """Return a family's network of random weights with its processor."""
    tiny, processor = getattr(vision_language, family)(side)
    size = SIZES[family]
    settings = {**tiny.config.to_dict(), **size.others}
    settings["vision_config"] |= size.vision
    settings["text_config"] |= size.text
    for name in ("layer_types", "head_dim", "rope_parameters"):
        if name not in size.text:
            settings["text_config"].pop(name, None)
    config = type(tiny.config)(**settings)
    standard = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        network = type(tiny)(config).eval()
    finally:
        torch.set_default_dtype(standard)
    return network.to(dtype), processor


def measure(family: str, side: int, dtype: str) -> None:
    """Print a family's row."""
    network, processor = network_of(family, side, getattr(torch, dtype))
    parameters = sum(tensor.numel() for tensor in network.parameters())
    scores = ab.WordScores(network, processor, "What is this?", text=TEXT)
    inner = getattr(network, "model", network)
    tower = next(
        getattr(inner, name)
        for name in ("vision_tower", "visual", "vision_model")
        if hasattr(inner, name)
    )
    decoder = getattr(inner, "language_model", None) or network.text_decoder
    counter = PassCounter({"tower": tower, "decoder": decoder})
    height, width = getattr(scores.module, "image_size", (side, side))
    images = torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(0))
    seconds = []
    counts = []
    for _ in range(2):  # the first time includes the checks of the network
        start = time.perf_counter()
        maps = ab.explain(scores, images=images, methods=METHODS)
        seconds.append(f"{time.perf_counter() - start:.1f} s")
        counts.append(counter.take())
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * KIB / GIB
    shape = "x".join(str(number) for number in next(iter(maps.values())).shape)
    print(
        f"{family} | {SIZES[family].checkpoint} | {parameters / 1e9:.2f} B | {dtype} | "
        f"maps {shape} | {scores.default_layer} | first {counts[0]}: {seconds[0]} | "
        f"again {counts[1]}: {seconds[1]} | {memory:.1f} GiB",
        flush=True,
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Print a row for each family. Return the exit code."""
    parser = argparse.ArgumentParser(description="Measure vision-language models of public sizes.")
    parser.add_argument("families", nargs="*", metavar="FAMILY", default=list(SIZES))
    parser.add_argument("--side", type=int, default=448, help="pixels of images")
    parser.add_argument("--dtype", default="bfloat16")
    options = parser.parse_args(argv)
    context = multiprocessing.get_context("spawn")
    for family in options.families or SIZES:
        process = context.Process(target=measure, args=(family, options.side, options.dtype))
        process.start()
        process.join()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
