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


def tokenizer(*special: str, **named: str) -> Any:
    """A byte-level tokenizer whose words have one or several tokens. `named` tokens are attributes,
    as `context_image_token`.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=300,
        special_tokens=[*SPECIAL, *special, *named.values()],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    made.train_from_iterator(SENTENCES * 3, trainer)
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=made,
        eos_token="</s>",
        bos_token="<s>",
        pad_token="<pad>",
        extra_special_tokens={"image_token": "<image>", **named},
    )


def _text_config(model_type: str, words: Any) -> dict[str, Any]:
    return {
        "model_type": model_type,
        "vocab_size": len(words),
        "eos_token_id": words.eos_token_id,
        **TEXT,
    }


def llava(side: int = SIDE) -> tuple[Any, Any]:
    """A network and its processor."""
    words = tokenizer()
    config = transformers.LlavaConfig(
        vision_config={"model_type": "clip_vision_model", **VISION, "image_size": side},
        text_config=_text_config("llama", words),
        image_token_index=words.convert_tokens_to_ids("<image>"),
    )
    network = _built(transformers.LlavaForConditionalGeneration, config)
    images = transformers.CLIPImageProcessor(
        size={"shortest_edge": side}, crop_size={"height": side, "width": side}
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


def llava_next(side: int = SIDE) -> tuple[Any, Any]:
    """A network that reads tiles of an image after a small version of it, and its processor."""
    words = tokenizer()
    sizes = [[side, 2 * side], [2 * side, side], [2 * side, 2 * side]]
    config = transformers.LlavaNextConfig(
        vision_config={"model_type": "clip_vision_model", **VISION, "image_size": side},
        text_config=_text_config("llama", words),
        image_token_index=words.convert_tokens_to_ids("<image>"),
        image_grid_pinpoints=sizes,
    )
    images = transformers.LlavaNextImageProcessor(
        size={"shortest_edge": side},
        crop_size={"height": side, "width": side},
        image_grid_pinpoints=sizes,
    )
    processor = transformers.LlavaNextProcessor(
        images,
        words,
        patch_size=PATCH,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=TEMPLATE,
    )
    return _built(transformers.LlavaNextForConditionalGeneration, config), processor


def llava_onevision(side: int = SIDE) -> tuple[Any, Any]:
    """Return a network like llava_next, whose processor crops nothing."""
    words = tokenizer(video_token="<video>")
    sizes = [[side, side], [side, 2 * side], [2 * side, 2 * side]]
    config = transformers.LlavaOnevisionConfig(
        vision_config={"model_type": "siglip_vision_model", **VISION, "image_size": side},
        text_config={
            "model_type": "qwen2",
            "vocab_size": len(words),
            "eos_token_id": words.eos_token_id,
            **TEXT,
        },
        image_token_index=words.convert_tokens_to_ids("<image>"),
        video_token_index=words.video_token_id,
        image_grid_pinpoints=sizes,
    )
    processor = transformers.LlavaOnevisionProcessor(
        transformers.LlavaOnevisionImageProcessor(
            size={"height": side, "width": side}, image_grid_pinpoints=sizes
        ),
        words,
        transformers.LlavaOnevisionVideoProcessor(),
        num_image_tokens=(side // PATCH) ** 2,
        vision_feature_select_strategy="full",
        chat_template=TEMPLATE,
    )
    return _built(transformers.LlavaOnevisionForConditionalGeneration, config), processor


def paligemma(side: int = SIDE) -> tuple[Any, Any]:
    """A network whose prompt's tokens see each other, and its processor."""
    words = tokenizer()
    processor = transformers.PaliGemmaProcessor(_siglip_images(side), words)
    config = transformers.PaliGemmaConfig(
        vision_config={"model_type": "siglip_vision_model", **VISION, "image_size": side},
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


def _siglip_images(side: int) -> Any:
    images = transformers.SiglipImageProcessor(size={"height": side, "width": side})
    images.image_seq_length = (side // PATCH) ** 2
    return images


def blip2(side: int = SIDE) -> tuple[Any, Any]:
    """A network whose decoder reads four queries in place of the image's tokens."""
    words = transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer().backend_tokenizer,
        eos_token="</s>",
        bos_token="<s>",
        pad_token="<pad>",
    )
    images = transformers.BlipImageProcessor(size={"height": side, "width": side})
    processor = transformers.Blip2Processor(images, words, num_query_tokens=4)
    text = {
        "model_type": "opt",
        "vocab_size": len(words),
        "hidden_size": 24,
        "word_embed_proj_dim": 24,
        "ffn_dim": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "max_position_embeddings": 128,
        "init_std": 0.8,
        "eos_token_id": words.eos_token_id,
        "bos_token_id": words.bos_token_id,
        "pad_token_id": words.pad_token_id,
    }
    config = transformers.Blip2Config(
        vision_config={**VISION, "image_size": side},
        qformer_config={
            "hidden_size": 16,
            "encoder_hidden_size": 16,
            "intermediate_size": 32,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
        },
        text_config=text,
        num_query_tokens=4,
        image_token_index=words.convert_tokens_to_ids("<image>"),
    )
    return _built(transformers.Blip2ForConditionalGeneration, config), processor


def blip(side: int = SIDE) -> tuple[Any, Any]:
    """A network that describes images, whose decoder reads them by cross-attention."""
    from tokenizers.processors import TemplateProcessing

    words = tokenizer("[CLS]", "[SEP]")
    first, last = words.convert_tokens_to_ids(["[CLS]", "[SEP]"])
    words.backend_tokenizer.post_processor = TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", first), ("[SEP]", last)]
    )
    images = transformers.BlipImageProcessor(size={"height": side, "width": side})
    processor = transformers.BlipProcessor(images, words)
    text = {
        "vocab_size": len(words),
        "hidden_size": 24,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "encoder_hidden_size": 16,
        "initializer_range": 0.5,
        "bos_token_id": words.bos_token_id,
        "eos_token_id": words.eos_token_id,
        "pad_token_id": words.pad_token_id,
        "sep_token_id": last,
    }
    config = transformers.BlipConfig(
        text_config=text,
        vision_config={**VISION, "image_size": side, "initializer_range": 0.5},
        initializer_range=0.5,
    )
    return _built(transformers.BlipForConditionalGeneration, config), processor


def internvl(side: int = SIDE) -> tuple[Any, Any]:
    """A network whose processor cuts images into tiles by default, and its processor."""
    words = tokenizer(
        context_image_token="<context>",
        start_image_token="<img>",
        end_image_token="</img>",
        video_token="<video>",
    )
    images = transformers.GotOcr2ImageProcessor(size={"height": side, "width": side})
    template = TEMPLATE.replace("<image>", "<context>")
    processor = transformers.InternVLProcessor(
        images,
        words,
        video_processor=transformers.InternVLVideoProcessor(),
        image_seq_length=(side // PATCH // 2) ** 2,
        chat_template=template,
    )
    config = transformers.InternVLConfig(
        vision_config={**VISION, "image_size": [side, side], "patch_size": [PATCH, PATCH]},
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


def idefics3(side: int = SIDE) -> tuple[Any, Any]:
    """A network of SmolVLM's first checkpoints, whose decoder reads four patches as one token."""
    words = tokenizer("<fake_token_around_image>", "<global-img>", "<end_of_utterance>")
    processor = transformers.Idefics3Processor(
        transformers.Idefics3ImageProcessor(
            size={"longest_edge": side}, max_image_size={"longest_edge": side}
        ),
        words,
        image_seq_len=(side // PATCH // 2) ** 2,
        chat_template=TEMPLATE,
    )
    config = transformers.Idefics3Config(
        vision_config={**VISION, "image_size": side},
        text_config=_text_config("llama", words),
        image_token_id=words.convert_tokens_to_ids("<image>"),
        scale_factor=2,
        pad_token_id=words.pad_token_id,
    )
    return _built(transformers.Idefics3ForConditionalGeneration, config), processor


def qwen2_vl(side: int = SIDE) -> tuple[Any, Any]:
    """A network that takes an image as a sequence of patches, and its processor."""
    words = _qwen_tokenizer()
    processor = transformers.Qwen2VLProcessor(
        *_qwen_parts(words, side), chat_template=QWEN_TEMPLATE
    )
    vision = {"embed_dim": 16, "hidden_size": 24, "mlp_ratio": 2}
    config = transformers.Qwen2VLConfig(**_qwen_settings(words, "qwen2_vl_text", vision))
    return _built(transformers.Qwen2VLForConditionalGeneration, config), processor


def qwen2_5_vl(side: int = SIDE) -> tuple[Any, Any]:
    """Return qwen2_vl with windows of patches in another order inside its tower."""
    words = _qwen_tokenizer()
    processor = transformers.Qwen2_5_VLProcessor(
        *_qwen_parts(words, side), chat_template=QWEN_TEMPLATE
    )
    vision = {
        "hidden_size": 16,
        "out_hidden_size": 24,
        "intermediate_size": 32,
        "window_size": 2 * PATCH * 2,
        "fullatt_block_indexes": [1],
    }
    config = transformers.Qwen2_5_VLConfig(**_qwen_settings(words, "qwen2_5_vl_text", vision))
    return _built(transformers.Qwen2_5_VLForConditionalGeneration, config), processor


def qwen3_vl(side: int = SIDE) -> tuple[Any, Any]:
    """Return a network like qwen2_vl, whose decoder also reads an inner block of its tower."""
    words = _qwen_tokenizer()
    images = _qwen_parts(words, side)[0]
    processor = transformers.Qwen3VLProcessor(
        images, words, transformers.Qwen3VLVideoProcessor(), chat_template=QWEN_TEMPLATE
    )
    vision = {
        "hidden_size": 16,
        "out_hidden_size": 24,
        "intermediate_size": 32,
        "deepstack_visual_indexes": [0],
        "num_position_embeddings": 64,
    }
    settings = _qwen_settings(words, "qwen3_vl_text", vision)
    settings["text_config"]["head_dim"] = 6
    config = transformers.Qwen3VLConfig(**settings)
    return _built(transformers.Qwen3VLForConditionalGeneration, config), processor


QWEN_TEMPLATE = TEMPLATE.replace("<image>", "<|vision_start|><|image_pad|><|vision_end|>")


def _qwen_tokenizer() -> Any:
    words = tokenizer(
        "<|vision_start|>",
        "<|vision_end|>",
        image_token="<|image_pad|>",
        video_token="<|video_pad|>",
    )
    return words


def _qwen_parts(words: Any, side: int) -> tuple[Any, Any, Any]:
    """The three parts of a processor: of images, of words and of videos."""
    images = transformers.Qwen2VLImageProcessor(
        size={"shortest_edge": (2 * PATCH) ** 2, "longest_edge": max(16 * PATCH, side) ** 2}
    )
    return images, words, transformers.Qwen2VLVideoProcessor()


def _qwen_settings(words: Any, model_type: str, vision: dict[str, Any]) -> dict[str, Any]:
    of_all = {
        "depth": 2,
        "num_heads": 2,
        "patch_size": PATCH,
        "spatial_merge_size": 2,
        "temporal_patch_size": 2,
    }
    rope = {"rope_type": "default", "mrope_section": [1, 1, 1], "rope_theta": 10000.0}
    return {
        "vision_config": {**of_all, **vision},
        "text_config": {
            "model_type": model_type,
            "vocab_size": len(words),
            "eos_token_id": words.eos_token_id,
            "bos_token_id": words.bos_token_id,
            "rope_parameters": rope,
            **TEXT,
        },
        "image_token_id": words.image_token_id,
        "video_token_id": words.video_token_id,
        "vision_start_token_id": words.convert_tokens_to_ids("<|vision_start|>"),
        "vision_end_token_id": words.convert_tokens_to_ids("<|vision_end|>"),
    }


def _built(network: Any, config: object) -> Any:
    """A network in eval mode, with the same random weights every time."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return network(config).eval()
