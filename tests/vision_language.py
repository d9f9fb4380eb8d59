"""Tiny vision-language networks of random weights with their processors."""

from typing import Any

import pytest
import torch

import axiom_bench.data.torchvision_import  # noqa: F401 - transformers needs it

transformers = pytest.importorskip("transformers")

SIDE = 56
PATCH = 14
BLOCK = "model.vision_tower.encoder.layers.1"  # the last one that LLaVA's projector reads
VISION = {
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "image_size": SIDE,
    "patch_size": PATCH,
}
TEXT = {
    "hidden_size": 24,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "initializer_range": 0.3,
}
SENTENCES = ["a cat on a mat, left of the hot-dog", "a photo of two dogs and one television"]
SPECIAL = ["<image>", "<pad>", "</s>", "<s>"]
TEMPLATE = (
    "{% for message in messages %}USER: {% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<image>\n{% else %}{{ part['text'] }}{% endif %}"
    "{% endfor %}{% endfor %} ASSISTANT:"
)


def tokenizer(*special: str) -> Any:
    """A byte-level tokenizer whose words have one or several tokens."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=300,
        special_tokens=[*SPECIAL, *special],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    made.train_from_iterator(SENTENCES * 3, trainer)
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=made,
        eos_token="</s>",
        bos_token="<s>",
        pad_token="<pad>",
        extra_special_tokens={"image_token": "<image>"},
    )


def llava() -> tuple[Any, Any]:
    """A network and its processor."""
    words = tokenizer()
    config = transformers.LlavaConfig(
        vision_config={"model_type": "clip_vision_model", **VISION},
        text_config={
            "model_type": "llama",
            "vocab_size": len(words),
            "eos_token_id": words.eos_token_id,
            **TEXT,
        },
        image_token_index=words.convert_tokens_to_ids("<image>"),
    )
    network = _built(transformers.LlavaForConditionalGeneration, config)
    images = transformers.CLIPImageProcessor(
        size={"shortest_edge": SIDE}, crop_size={"height": SIDE, "width": SIDE}
    )
    processor = transformers.LlavaProcessor(
        images,
        words,
        patch_size=PATCH,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=TEMPLATE,
    )
    return network, processor


def paligemma() -> tuple[Any, Any]:
    """A network whose prompt's tokens see each other, and its processor."""
    words = tokenizer()
    processor = transformers.PaliGemmaProcessor(_siglip_images(), words)
    config = transformers.PaliGemmaConfig(
        vision_config={"model_type": "siglip_vision_model", **VISION},
        text_config={
            "model_type": "gemma",
            "vocab_size": len(words),
            "head_dim": 6,
            "eos_token_id": words.eos_token_id,
            **TEXT,
        },
        image_token_index=words.convert_tokens_to_ids("<image>"),
        projection_dim=24,
    )
    return _built(transformers.PaliGemmaForConditionalGeneration, config), processor


def _siglip_images() -> Any:
    images = transformers.SiglipImageProcessor(size={"height": SIDE, "width": SIDE})
    images.image_seq_length = (SIDE // PATCH) ** 2
    return images


def internvl() -> tuple[Any, Any]:
    """A network whose processor cuts images into tiles by default, and its processor."""
    words = tokenizer("<context>", "<img>", "</img>")
    for name, token in (("context", "<context>"), ("start", "<img>"), ("end", "</img>")):
        setattr(words, f"{name}_image_token", token)
        setattr(words, f"{name}_image_token_id", words.convert_tokens_to_ids(token))
    words.video_token = "<video>"
    images = transformers.GotOcr2ImageProcessor(size={"height": SIDE, "width": SIDE})
    template = TEMPLATE.replace("<image>", "<context>")
    processor = transformers.InternVLProcessor(
        images,
        words,
        video_processor=transformers.InternVLVideoProcessor(),
        image_seq_length=4,
        chat_template=template,
    )
    config = transformers.InternVLConfig(
        vision_config={**VISION, "image_size": [SIDE, SIDE], "patch_size": [PATCH, PATCH]},
        text_config={
            "model_type": "qwen2",
            "vocab_size": len(words),
            "eos_token_id": words.eos_token_id,
            **TEXT,
        },
        image_token_id=words.context_image_token_id,
        downsample_ratio=0.5,
    )
    return _built(transformers.InternVLForConditionalGeneration, config), processor


def _built(network: Any, config: object) -> Any:
    """A network in eval mode, with the same random weights every time."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return network(config).eval()
