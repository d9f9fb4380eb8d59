"""Tests of networks that cut an image into tiles: a map of all tiles, at the scores of a plain
pass.
"""

import numpy as np
import pytest
import torch
from PIL import Image

import axiom_bench as ab
from axiom_bench.cli.main import main
from axiom_bench.cutting.trunk_and_head import Step
from tests.vision_language import SIDE, internvl, llava, llava_next, llava_onevision

PROMPT = "What is left of the mat?"
TEXT = " a cat, left of the hot-dog"
TWO_BY_TWO = (2 * SIDE, 2 * SIDE)
CASES = [
    (llava_next, None, TWO_BY_TWO),
    (llava_next, (SIDE, 2 * SIDE), (SIDE, 2 * SIDE)),
    (llava_onevision, None, TWO_BY_TWO),
    (internvl, TWO_BY_TWO, TWO_BY_TWO),
    (internvl, (2 * SIDE, 3 * SIDE), (2 * SIDE, 3 * SIDE)),
]
DIGITS = {"rtol": 1e-9, "atol": 1e-11}  # of a few sums of float64


@pytest.fixture(params=CASES, ids=lambda case: f"{case[0].__name__}-{case[2]}")
def tiled(request):
    """A network in float64, its scores, an image of its size, and the trace of the text's words."""
    make, size, expected = request.param
    module, processor = make()
    scores = ab.WordScores(module.double(), processor, PROMPT, TEXT, size=size).eval()
    assert scores.module.size == expected
    generator = torch.Generator().manual_seed(1)
    image = torch.randn(1, 3, *expected, generator=generator, dtype=torch.float64)
    (found,) = scores.found(image, 0.0)
    places = torch.stack([word.place for word in found])
    labels = torch.tensor([word.label for word in found])
    images = image.expand(len(found), -1, -1, -1)
    trace = ab.trace(scores, scores.default_layer, (images, places), labels, output="logits")
    scores.processor = processor
    return module, scores, image, trace


def plain_scores(module, scores, image, trace):
    """The words' scores in a plain pass of the network over the tiles and the whole text."""
    inputs = scores.module._inputs(image, torch.tensor([scores.text]))
    with torch.no_grad():
        logits = module(**inputs, use_cache=False).logits[0]
    start = inputs["input_ids"].shape[1] - len(scores.text) - 1
    values = []
    for place in trace.other_inputs[0].long().tolist():
        positions = range(place[0], place[0] + place[1])
        values.append(sum(logits[start + at, scores.text[at]] for at in positions))
    return torch.stack(values)


@pytest.mark.slow
def test_scores_and_drops_are_those_of_plain_passes(tiled, monkeypatch):
    module, scores, _, trace = tiled
    assert trace.capture.step is Step.HEAD  # no drop runs the vision tower again
    torch.testing.assert_close(trace.scores, plain_scores(*tiled), **DIGITS)

    order = scores.module.get_buffer("order")
    features = module.model.get_image_features

    def without_channel(*args, **kwargs):
        returned = features(*args, **kwargs)
        tokens = returned.pooler_output
        flat = torch.cat([*tokens]).clone()
        flat[order, 5] = 0
        is_list = not isinstance(tokens, torch.Tensor)
        returned.pooler_output = [flat] if is_list else flat.view_as(tokens)
        return returned

    monkeypatch.setattr(module.model, "get_image_features", without_channel)
    drops = trace.scores - plain_scores(*tiled)
    torch.testing.assert_close(trace.ablation_drops[:, 5], drops, **DIGITS)
    assert drops.abs().max() > 1e-3


@pytest.mark.slow
def test_each_position_of_the_map_is_a_token_of_its_tile(tiled):
    module, scores, image, trace = tiled
    count = scores.module.tokens_of_side
    tile = image[:, :, -SIDE:, -SIDE:]  # at the lower right
    inner = module.model
    if hasattr(inner, "pack_image_features"):
        states = inner.vision_tower(tile, output_hidden_states=True).hidden_states
        chosen = states[module.config.vision_feature_layer]
        is_default = module.config.vision_feature_select_strategy == "default"
        tokens = inner.multi_modal_projector(chosen[:, 1:] if is_default else chosen)
    else:
        tokens = inner.get_image_features(pixel_values=tile, return_dict=True).pooler_output
    expected = tokens[0].T.unflatten(1, (count, count))
    torch.testing.assert_close(trace.activations[0][:, -count:, -count:], expected, **DIGITS)
    assert trace.activations.shape[2:] == tuple(side // SIDE * count for side in image.shape[2:])


@pytest.mark.slow
def test_the_tiles_are_those_of_the_processor(tiled):
    """The processor rounds the small version to whole pixels, so the scores differ a little."""
    module, scores, image, _ = tiled
    processor = scores.processor
    pixels = np.random.default_rng(3).integers(64, 192, (*image.shape[2:], 3), dtype=np.uint8)
    images = processor.image_processor
    settings = {"crop_to_patches": True} if hasattr(images, "crop_to_patches") else {}
    text = scores.prompt + TEXT
    inputs = processor(images=Image.fromarray(pixels), text=text, return_tensors="pt", **settings)
    inputs["pixel_values"] = inputs["pixel_values"].double()
    with torch.no_grad():
        expected = module(**inputs, use_cache=False).logits[0]
    mean = torch.tensor(images.image_mean, dtype=torch.float64)[:, None, None]
    std = torch.tensor(images.image_std, dtype=torch.float64)[:, None, None]
    normalised = (torch.from_numpy(pixels).movedim(2, 0) / 255 - mean) / std
    upside_down = normalised.flip(1)
    errors = []
    for pixels_of_tiles in (normalised, upside_down):
        inputs = scores.module._inputs(pixels_of_tiles[None], torch.tensor([scores.text]))
        with torch.no_grad():
            logits = module(**inputs, use_cache=False).logits[0]
        errors.append(float((logits - expected).square().mean().sqrt() / expected.std()))
    assert errors[0] < 0.05
    assert errors[1] > 0.5  # so tiles in another order are found


@pytest.mark.slow
def test_methods_of_attention_explain_tiles(tiled):
    _, scores, image, _ = tiled
    methods = ["grad_cam", "layer_cam", "attn_lrp", "raw_attention", "rollout"]
    maps = ab.explain(scores, images=image, methods=methods, words=["cat"])
    assert list(maps) == methods


@pytest.mark.parametrize(
    ("make", "size", "message"),
    [
        (llava_next, (100, 2 * SIDE), "of 100x112 pixels into 4 tiles of 56x56 after it has resi"),
        (internvl, (SIDE, SIDE + 4), "set model.kwargs.size to multiples of 56"),
        (llava, TWO_BY_TWO, "have the size of its processor; leave out size"),
    ],
)
def test_another_size_is_refused(make, size, message):
    with pytest.raises(ab.BenchError, match=message):
        ab.WordScores(*make(), PROMPT, TEXT, size=size)


@pytest.mark.slow
def test_images_of_another_size_than_the_prompt_are_refused(tiled):
    _, scores, image, _ = tiled
    with pytest.raises(ab.BenchError, match=r"and the prompt is for .*WordScores\(size=\.\.\.\)"):
        scores(image[:, :, :-SIDE], torch.zeros(1, 34))


@pytest.mark.slow
def test_the_command_explains_tiles(tmp_path, capsys):
    for part in llava_next():
        part.save_pretrained(tmp_path / "next")
    pixels = torch.randint(0, 256, (90, 80, 3), generator=torch.Generator().manual_seed(2))
    Image.fromarray(pixels.byte().numpy()).save(tmp_path / "photo.png")
    command = ["explain", str(tmp_path / "photo.png"), "--model", str(tmp_path / "next")]
    command += ["--prompt", PROMPT, f"model.kwargs.text='{TEXT}'", "--words", "cat"]
    command += ["--methods", "layer_cam", "--output", str(tmp_path / "maps.png")]
    assert main(command) == 0
    assert (tmp_path / "maps.png").exists()
    assert "the prompt is" in capsys.readouterr().out
