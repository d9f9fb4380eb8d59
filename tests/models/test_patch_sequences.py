"""Tests of networks of words that take an image as a sequence of patches, such as Qwen2-VL."""

from copy import deepcopy

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import axiom_bench as ab
from axiom_bench.cli.main import main
from axiom_bench.cutting.trunk_and_head import Step
from axiom_bench.evaluation import plugins
from axiom_bench.models.of_patch_sequences import PatchSequences
from tests.vision_language import PATCH, llava, qwen2_5_vl, qwen2_vl, qwen3_vl

SIZE = (6 * PATCH, 8 * PATCH)
PROMPT = "What is left of the mat?"
TEXT = " a cat, left of the hot-dog"
DIGITS = {"rtol": 1e-9, "atol": 1e-11}  # of a few sums of float64
PIXEL_DIGITS = {"rtol": 1e-4, "atol": 1e-5}  # the processor makes pixels in float32


@pytest.fixture(scope="module", params=[qwen2_vl, qwen2_5_vl, qwen3_vl])
def network(request):
    """The network in float64, its processor, and the scores of a text."""
    module, processor = request.param()
    module = module.double()
    return module, processor, ab.WordScores(module, processor, PROMPT, TEXT, size=SIZE).eval()


@pytest.fixture(scope="module")
def photo():
    return Image.fromarray(np.random.default_rng(1).integers(0, 256, (*SIZE, 3), dtype=np.uint8))


@pytest.fixture(scope="module")
def image(photo, network):
    """The photograph as the network's preprocessing makes it, (1, 3, *SIZE)."""
    _, processor, _ = network
    images = processor.image_processor
    pixels = torch.from_numpy(np.asarray(photo)).movedim(2, 0).double() / 255
    mean, std = (
        torch.tensor(value)[:, None, None] for value in (images.image_mean, images.image_std)
    )
    return ((pixels - mean) / std)[None]


@pytest.fixture(scope="module")
def trace(network, image):
    """The trace of the words, a row for each."""
    _, _, scores = network
    (found,) = scores.found(image, 0.0)
    places = torch.stack([word.place for word in found]).double()
    labels = torch.tensor([word.label for word in found])
    images = image.expand(len(found), -1, -1, -1)
    layer = scores.default_layer
    return ab.trace(scores, layer, (images, places), labels, reshape="tokens", output="logits")


@pytest.mark.slow
def test_scores_are_those_of_a_plain_pass_of_the_processors_inputs(network, photo, trace):
    module, processor, scores = network
    inputs = processor(images=photo, text=scores.prompt, return_tensors="pt")
    tokens = torch.tensor([processor.tokenizer(TEXT, add_special_tokens=False)["input_ids"]])
    start = inputs["input_ids"].shape[1] - 1
    inputs["input_ids"] = torch.cat([inputs["input_ids"], tokens], 1)
    inputs["attention_mask"] = torch.ones_like(inputs["input_ids"])
    types = inputs["mm_token_type_ids"]
    inputs["mm_token_type_ids"] = torch.cat([types, torch.zeros_like(tokens)], 1)
    with torch.no_grad():
        logits = module(**inputs).logits[0, start:]
    (place,) = trace.other_inputs
    for row, (first, count) in enumerate(place[:, :2].long().tolist()):
        positions = range(first, first + count)
        expected = sum(logits[position, tokens[0, position]] for position in positions)
        torch.testing.assert_close(trace.scores[row], expected, **PIXEL_DIGITS)


@pytest.mark.slow
def test_drops_are_those_of_the_towers_tokens_without_a_channel(network, image, trace):
    _, _, scores = network
    assert trace.capture.step is Step.HEAD  # no drop runs the vision tower again
    assert trace.activations.shape[1:] == (24, 3, 4)
    layer = scores.get_submodule(scores.default_layer)
    (places,) = trace.other_inputs
    for channel in range(0, 24, 7):
        hook = layer.register_forward_hook(
            lambda module, inputs, output, channel=channel: output.index_fill(
                2, torch.tensor([channel]), 0
            )
        )
        with torch.no_grad():
            rows = [scores(image, place[None]) for place in places]
        hook.remove()
        without = torch.cat(rows).gather(1, trace.targets[:, None])[:, 0]
        drops = trace.ablation_drops[:, channel]
        torch.testing.assert_close(drops, trace.scores - without, **DIGITS)


def test_a_position_of_the_layer_is_where_its_pixels_are(network, image):
    """Windows of the tower's blocks have another order."""
    _, _, scores = network
    changed = image.clone()
    changed[:, :, 2 * PATCH : 4 * PATCH, 4 * PATCH : 6 * PATCH] += 1  # row 1, column 2
    tower = scores.module.module.model.visual
    grid = torch.tensor([[1, 6, 8]])
    # Without attention a token depends on its own pixels only.
    for block in tower.blocks:
        block.attn.proj.register_forward_hook(lambda module, inputs, output: output * 0)
    try:
        with torch.no_grad():
            before, after = (
                tower(scores.module.patches(pixels), grid_thw=grid).pooler_output
                for pixels in (image, changed)
            )
    finally:
        for block in tower.blocks:
            block.attn.proj._forward_hooks.clear()
    moved = (before - after).abs().sum(1).view(3, 4) > 0
    assert moved.nonzero().tolist() == [[1, 2]]


@pytest.mark.slow
def test_raw_attention_is_the_decoders_also_if_the_tower_has_more_tokens(network, image):
    module, processor, _ = network
    size = (16 * PATCH, 16 * PATCH)
    scores = ab.WordScores(module, processor, PROMPT, TEXT, size=size).eval()
    image = nn.functional.interpolate(image, size)
    (found,) = scores.found(image, 0.0)
    word = found[-1]
    inputs = (image, word.place[None].double())
    layer = scores.default_layer
    settings = {"reshape": "tokens", "output": "logits"}
    trace = ab.trace(scores, layer, inputs, torch.tensor([word.label]), **settings)
    raw = plugins.load("method", "raw_attention")(trace).raw

    eager = deepcopy(module)
    eager.set_attn_implementation("eager")
    picture = Image.new("RGB", size)
    given = dict(processor(images=picture, text=scores.prompt, return_tensors="pt"))
    text = word.place[2:][None].long()
    prompt_ids = given["input_ids"]
    given["input_ids"] = torch.cat([prompt_ids, text], 1)
    given["attention_mask"] = torch.ones_like(given["input_ids"])
    types = torch.zeros_like(text)
    given["mm_token_type_ids"] = torch.cat([given["mm_token_type_ids"], types], 1)
    given["pixel_values"] = scores.module.patches(image)
    with torch.no_grad():
        attentions = eager(**given, output_attentions=True).attentions
    of_image = (prompt_ids[0] == module.config.image_token_id).nonzero()[:, 0]
    before = prompt_ids.shape[1] - 1 + int(word.place[:2].sum()) - 1
    assert attentions[-1].shape[3] < 16 * 16
    expected = attentions[-1][0].mean(0)[before, of_image].view(1, 8, 8)
    # transformers computes the softmax of eager attention in float32
    torch.testing.assert_close(raw, expected.double(), rtol=1e-5, atol=1e-7)


def test_other_sizes_are_one_sentence(network, image):
    module, processor, scores = network
    with pytest.raises(ab.BenchError, match="have 56x112 pixels, and the prompt is for 84x112"):
        scores.found(image[:, :, : 4 * PATCH], 0.0)
    with pytest.raises(ab.BenchError, match="resizes images of 90x112 pixels to 84x112"):
        ab.WordScores(module, processor, PROMPT, size=(90, 112))
    with pytest.raises(ab.BenchError, match="have the size of its processor; leave out size"):
        ab.WordScores(*llava(), PROMPT, size=SIZE)


def test_another_order_of_patches_is_refused(network, monkeypatch):
    module, processor, _ = network
    plain = PatchSequences.patches
    monkeypatch.setattr(
        PatchSequences, "patches", lambda self, images: plain(self, images.mT).clone()
    )
    with pytest.raises(ab.BenchError, match="makes other patches than that of Qwen2-VL"):
        ab.WordScores(module, processor, PROMPT, size=(6 * PATCH, 6 * PATCH))


@pytest.mark.slow
def test_words_are_explained_by_the_command(tmp_path, photo, capsys):
    for part in qwen2_vl():
        part.save_pretrained(tmp_path / "qwen")
    photo.save(tmp_path / "photo.png")
    words = ["--prompt", "What?", f"model.kwargs.text='{TEXT}'", "--words", "cat,hot-dog"]
    settings = ["model.kwargs.size=[84,112]", "--methods", "grad_cam,raw_attention"]
    place = ["--model", str(tmp_path / "qwen"), "--output", str(tmp_path / "maps.png")]
    assert main(["explain", str(tmp_path / "photo.png"), *place, *words, *settings]) == 0
    assert "the text is 'a cat, left of the hot-dog'" in capsys.readouterr().out
