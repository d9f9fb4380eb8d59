"""Tests of `WordScores`: the score of a word is that of a plain pass of the network."""

from copy import deepcopy
from dataclasses import replace

import pytest
import torch
from PIL import Image

import axiom_bench as ab
from axiom_bench.cli.benchmark import compute
from axiom_bench.cli.main import main
from axiom_bench.cutting import preparing
from axiom_bench.cutting.graph_parts import CutPoint
from axiom_bench.cutting.images import bound
from axiom_bench.cutting.objects import trace_other_object
from axiom_bench.cutting.output import ScoredNetwork
from axiom_bench.cutting.trunk_and_head import Capture, Step, same_step
from axiom_bench.embedded import captions
from axiom_bench.evaluation import plugins
from axiom_bench.examination.examine import examined_input
from axiom_bench.models import words
from axiom_bench.models.load import load_model
from axiom_bench.records import reading, store
from axiom_bench.run import shards
from axiom_bench.run.composing.composition import composed
from tests.vision_language import (
    BLOCK,
    SIDE,
    blip,
    blip2,
    idefics3,
    internvl,
    llava,
    llava_next,
    paligemma,
    qwen2_5_vl,
    qwen2_vl,
    qwen3_vl,
)

PROMPT = "What is left of the mat?"
TEXT = " a cat, left of the hot-dog"
LAYER = f"module.module.{BLOCK}"
DIGITS = {"rtol": 1e-9, "atol": 1e-11}  # of a few sums of float64


@pytest.fixture(scope="module")
def network():
    """The network in float64, and its processor."""
    module, processor = llava()
    return module.double(), processor


def noise(seed):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(1, 3, SIDE, SIDE, generator=generator, dtype=torch.float64)


@pytest.fixture(scope="module")
def image():
    return noise(1)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """The folder of a checkpoint, and a photograph."""
    folder = tmp_path_factory.mktemp("vision_language")
    for part in llava():
        part.save_pretrained(folder / "llava")
    pixels = torch.randint(0, 256, (90, 80, 3), generator=torch.Generator().manual_seed(2))
    Image.fromarray(pixels.byte().numpy()).save(folder / "photo.png")
    return folder


def traced(scores, image, found):
    """The trace of the words, a row for each."""
    images = image.expand(len(found), -1, -1, -1)
    places = torch.stack([word.place for word in found]).double()
    labels = torch.tensor([word.label for word in found])
    return ab.trace(scores, LAYER, (images, places), labels, reshape="tokens", output="logits")


def plain_scores(network, image, prompt, text, word, output):
    """A word's score of a pass over the prompt and the whole text, token by token."""
    module, processor = network
    tokens = processor.tokenizer(text, add_special_tokens=False)["input_ids"]
    picture = Image.new("RGB", (SIDE, SIDE))
    prompt_ids = processor(images=picture, text=prompt, return_tensors="pt")["input_ids"]
    ids = torch.cat([prompt_ids, torch.tensor([tokens])], 1)
    with torch.no_grad():
        logits = module(input_ids=ids, pixel_values=image).logits[0]
    if output == "log_probabilities":
        logits = logits.log_softmax(1)
    start = prompt_ids.shape[1] + word.first - 1
    positions = range(word.first, word.first + word.count)
    return sum(
        float(logits[start + step, tokens[position]]) for step, position in enumerate(positions)
    )


@pytest.mark.slow
@pytest.mark.parametrize("output", words.SCORES)
def test_the_score_of_a_word_is_the_sum_of_its_tokens_in_a_plain_pass(network, image, output):
    scores = ab.WordScores(*network, PROMPT, TEXT, output).eval()
    (found,) = scores.found(image, 0.0)
    texts = words.words_of(scores.text, scores.module)
    assert [word.text for word in texts] == ["a", "cat", "left", "of", "the", "hot-dog"]
    assert max(word.count for word in texts) > 1
    trace = traced(scores, image, found)
    expected = [plain_scores(network, image, scores.prompt, TEXT, word, output) for word in texts]
    torch.testing.assert_close(trace.scores, torch.tensor(expected, dtype=torch.float64), **DIGITS)
    if output == "log_probabilities":
        logarithms = torch.tensor([word.probability for word in found], dtype=torch.float64).log()
        torch.testing.assert_close(trace.scores, logarithms, **DIGITS)


@pytest.mark.slow
def test_drops_are_those_of_a_block_without_a_channel(network, image):
    """Check also that the states that transformers keeps by hooks are without it."""
    scores = ab.WordScores(*network, PROMPT, TEXT).eval()
    found = scores.found(image, 0.0)[0][-2:]
    trace = traced(scores, image, found)
    assert trace.capture.step is Step.HEAD  # no drop runs the vision tower again
    module, _ = network
    block = module.get_submodule(BLOCK)
    places = torch.stack([word.place for word in found]).double()
    for channel in range(16):
        keep = torch.ones(16, dtype=torch.float64)
        keep[channel] = 0

        def without(block, inputs, output, keep=keep):
            return torch.cat([output[:, :1], output[:, 1:] * keep], 1)

        handle = block.register_forward_hook(without, prepend=True)
        try:
            with torch.no_grad():
                logits = scores(image.expand(2, -1, -1, -1), places)
        finally:
            handle.remove()
        left = logits[[0, 1], [word.label for word in found]]
        torch.testing.assert_close(trace.drops.values[:, channel], trace.scores - left, **DIGITS)


@pytest.mark.slow
def test_python_explains_all_words_at_the_default_layer(network, image):
    scores = ab.WordScores(*network, PROMPT, TEXT).eval()
    maps = ab.explain(scores, images=image, methods=["xgrad_cam"])
    assert maps.layer == LAYER
    names = [score.name for score in maps.scores]
    assert names == ["cat", "left", "hot-dog", "a", "of", "the"]
    assert len(maps.notes) == len(names)  # the network would say none of them


@pytest.mark.slow
def test_raw_attention_is_that_of_the_token_that_predicts_the_word(network, image):
    scores = ab.WordScores(*network, PROMPT, TEXT).eval()
    (found,) = scores.found(image, 0.0)
    hot_dog = found[-1]
    raw = plugins.load("method", "raw_attention")(traced(scores, image, [hot_dog])).raw

    module, processor = network
    module = deepcopy(module)
    module.set_attn_implementation("eager")
    picture = Image.new("RGB", (SIDE, SIDE))
    inputs = processor(images=picture, text=scores.prompt, return_tensors="pt")
    prompt_ids = inputs["input_ids"]
    text = hot_dog.place[2:][None].long()
    with torch.no_grad():
        attentions = module(
            input_ids=torch.cat([prompt_ids, text], 1), pixel_values=image, output_attentions=True
        ).attentions
    last = int(hot_dog.place[0] + hot_dog.place[1]) - 1
    before = prompt_ids.shape[1] + last - 1
    of_image = prompt_ids[0] == module.config.image_token_index
    expected = attentions[-1][0].mean(0)[before][: len(of_image)][of_image]
    # transformers computes the softmax of eager attention in float32
    torch.testing.assert_close(raw.flatten(), expected, rtol=1e-5, atol=1e-7)


@pytest.mark.slow
@pytest.mark.parametrize("make", [llava, paligemma])
def test_legrad_of_a_word_sums_the_gradients_of_the_tower(make):
    """The tower of paligemma also pools its tokens by an attention that nothing reads."""
    module, processor = make()
    module = module.double()
    scores = ab.WordScores(module, processor, PROMPT, TEXT).eval()
    image = noise(1)
    (found,) = scores.found(image, 0.0)
    layer = scores.default_layer
    places = torch.stack([word.place for word in found[:2]]).double()
    labels = torch.tensor([word.label for word in found[:2]])
    inputs = (image.expand(2, -1, -1, -1), places)
    trace = ab.trace(scores, layer, inputs, labels, reshape="tokens", output="logits")
    raw = plugins.load("method", "legrad")(trace).raw

    # By hand: the layer returns block l's tokens, whose attention is a leaf.
    blocks, last = layer.rsplit(".", 1)
    expected = 0
    for number in range(max(int(last) - 1, 0), int(last) + 1):
        kept = {}

        def attend(attention, inputs, kwargs, output, kept=kept):
            tokens = kwargs.get("hidden_states", inputs[0] if inputs else None)
            names = ("q_proj", "k_proj", "v_proj")
            projected = [getattr(attention, name)(tokens) for name in names]
            heads = (
                part.unflatten(2, (attention.num_heads, -1)).transpose(1, 2) for part in projected
            )
            query, key, value = heads
            weights = (attention.scale * query @ key.mT).softmax(3).detach().requires_grad_()
            kept["weights"] = weights
            return attention.out_proj((weights @ value).transpose(1, 2).flatten(2)), None

        def keep(block, inputs, output, kept=kept):
            kept["tokens"] = output

        def replace(block, inputs, output, kept=kept):
            return kept["tokens"]

        block = scores.get_submodule(f"{blocks}.{number}")
        hooks = [
            block.self_attn.register_forward_hook(attend, with_kwargs=True),
            block.register_forward_hook(keep),
            scores.get_submodule(layer).register_forward_hook(replace),
        ]
        score = scores(image, places[:1])[0, labels[0]]
        for hook in hooks:
            hook.remove()
        (gradient,) = torch.autograd.grad(score, kept["weights"])
        expected = expected + gradient.relu().mean((0, 1, 2))[-16:]
    torch.testing.assert_close(raw[0].flatten(), expected, **DIGITS)


def test_another_word_is_a_content_word_of_another_spelling(network, image):
    scores = ab.WordScores(*network, PROMPT, TEXT).eval()
    (found,) = scores.found(image, 0.0)
    by_name = {word.name: word for word in found}
    assert scores.other(found, by_name["of"].place).name == "cat"
    assert scores.other(found, by_name["cat"].place).name == "left"
    assert scores.other([by_name["cat"]], by_name["cat"].place) is None


@pytest.mark.slow
def test_another_word_is_traced_however_improbable_a_given_text_is(network, image):
    scores = ab.WordScores(*network, PROMPT, TEXT).eval()
    (found,) = scores.found(image, 0.0)
    by_name = {word.name: word for word in found}
    assert max(word.probability for word in found) < 0.05
    other = trace_other_object(traced(scores, image, [by_name["cat"]]))
    assert torch.equal(other.other_inputs[0][0], by_name["left"].place.double())
    assert other.targets.tolist() == [by_name["left"].label]


@pytest.mark.slow
def test_the_numbers_of_tokens_are_not_taken_for_pixels(network, image):
    scores = ab.WordScores(*network, PROMPT, TEXT).eval()
    trace = traced(scores, image, scores.found(image, 0.0)[0][:1])
    answer = examined_input(trace)
    assert answer.level == "ok"
    assert "vision_tower.embeddings.patch_embedding" in answer.sentence


@pytest.mark.slow
def test_a_word_has_the_same_score_alone_and_with_others(network, image):
    scores = ab.WordScores(*network, PROMPT, TEXT).eval()
    (found,) = scores.found(image, 0.0)
    together = traced(scores, image, found)
    alone = [float(traced(scores, image, [word]).scores) for word in found]
    assert together.scores.tolist() == alone


def test_the_words_are_those_that_the_network_generates(network, image):
    module, processor = network
    scores = ab.WordScores(*network, PROMPT, length=8).eval()
    inputs = processor(
        images=Image.new("RGB", (SIDE, SIDE)), text=scores.prompt, return_tensors="pt"
    )
    inputs["pixel_values"] = image
    start = inputs["input_ids"].shape[1]
    generated = module.generate(**inputs, max_new_tokens=8, do_sample=False)[0, start:]
    (found,) = scores.found(image, 0.0)
    text = processor.tokenizer.decode(generated, skip_special_tokens=True)
    assert [word.name for word in found] == words.WORD.findall(text)
    assert all(word.rank == 1 for word in found)


def described(scores):
    """An image about which the network says some tokens."""
    dtype = next(scores.parameters()).dtype
    images = [noise(seed).to(dtype) for seed in range(20)]
    return next(image for image in images if len(scores.found(image, 0.0)[0]) > 2)


SMALL = {"size": [SIDE, SIDE]}  # of networks that take images of any size
# the name of conf/model, its network, and further arguments
FAMILIES = {
    "smolvlm": (idefics3, {}),
    "blip": (blip, {}),
    "blip2": (blip2, {}),
    "internvl": (internvl, {}),
    "llava": (llava, {}),
    "llava_next": (llava_next, {}),
    "paligemma": (paligemma, {}),
    "qwen2_vl": (qwen2_vl, SMALL),
    "qwen2_5_vl": (qwen2_5_vl, SMALL),
    "qwen3_vl": (qwen3_vl, SMALL),
}


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    ["smolvlm", *(pytest.param(name, marks=pytest.mark.slow) for name in [*FAMILIES][1:])],
)
def test_a_family_is_loaded_by_its_name_and_explained(name, tmp_path):
    make, others = FAMILIES[name]
    for part in make():
        part.save_pretrained(tmp_path)
    kwargs = {"prompt": PROMPT, "text": " a cat", **others}
    network = ab.load_model(name, checkpoint=str(tmp_path), kwargs=kwargs)
    loaded = network.loaded
    assert network.default_layer.endswith(loaded.layer)
    assert not any("gives other pixels" in line for line in loaded.lines)
    photo = tmp_path / "photo.png"
    Image.new("RGB", (90, 80), "teal").save(photo)
    maps = ab.explain(network, images=photo, methods=["layer_cam"], words=["cat"])
    assert maps["layer_cam"].isfinite().all()


def test_an_image_of_zeros_is_no_padding():
    scores = ab.WordScores(*idefics3(), PROMPT, TEXT).eval()
    zeros = torch.zeros(1, 3, SIDE, SIDE)
    (found,) = scores.found(zeros, 0.0)
    (expected,) = scores.found(zeros + 1e-12, 0.0)
    assert [word.probability for word in found] == [word.probability for word in expected]


# the settings of processors that cut images into tiles
WHOLE_IMAGE = {internvl: {"crop_to_patches": False}, idefics3: {"do_image_splitting": False}}


@pytest.mark.slow
@pytest.mark.parametrize("make", [paligemma, internvl, blip2, idefics3])
def test_scores_and_drops_of_a_family_are_those_of_generation(make):
    module, processor = make()
    module = module.double()
    scores = ab.WordScores(module, processor, PROMPT, length=8).eval()
    image = described(scores).double()
    (found,) = scores.found(image, 0.0)
    layer = scores.default_layer
    places = torch.stack([word.place for word in found]).double()
    labels = torch.tensor([word.label for word in found])
    rows = image.expand(len(found), -1, -1, -1)
    trace = ab.trace(scores, layer, (rows, places), labels, reshape="tokens", output="logits")

    inputs = processor(
        images=Image.new("RGB", (SIDE, SIDE)),
        text=scores.prompt,
        return_tensors="pt",
        **WHOLE_IMAGE.get(make, {}),
    )
    inputs["pixel_values"] = image.reshape(inputs["pixel_values"].shape)
    settings = {"do_sample": False, "max_new_tokens": 8, "output_logits": True}
    generated = module.generate(**inputs, **settings, return_dict_in_generate=True)
    tokens = generated.sequences[0, -len(generated.logits) :]
    own = torch.cat(generated.logits).gather(1, tokens[:, None])[:, 0]
    firsts = places[:, 0].long().tolist()
    counts = places[:, 1].long().tolist()
    expected = [
        own[first : first + count].sum() for first, count in zip(firsts, counts, strict=True)
    ]
    # transformers rounds the logits of a generation to float32
    own_scores = torch.stack(expected).double()
    torch.testing.assert_close(trace.scores, own_scores, rtol=1e-6, atol=1e-6)

    block = scores.get_submodule(layer)
    num_patches = trace.activations[0, 0].numel()
    for channel in range(16):
        keep = torch.ones(16, dtype=torch.float64)
        keep[channel] = 0

        def without(block, inputs, output, keep=keep):
            patches = output[:, -num_patches:] * keep
            return torch.cat([output[:, :-num_patches], patches], 1)

        handle = block.register_forward_hook(without, prepend=True)
        try:
            with torch.no_grad():
                logits = scores(rows, places)
        finally:
            handle.remove()
        left = logits.gather(1, labels[:, None])[:, 0]
        torch.testing.assert_close(trace.drops.values[:, channel], trace.scores - left, **DIGITS)


@pytest.mark.parametrize("make", [paligemma, internvl, blip, blip2, idefics3])
def test_the_generated_tokens_are_the_most_probable_ones_of_one_pass(make):
    scores = ab.WordScores(*make(), PROMPT, length=8).eval()
    (found,) = scores.found(described(scores), 0.0)
    assert all(word.rank == 1 for word in found)


@pytest.mark.slow
@pytest.mark.parametrize("prompt", ["", "a photo of"])
def test_a_caption_of_blip_is_its_own_and_scored_as_in_a_plain_pass(image, prompt):
    module, processor = blip()
    module = module.double()
    scores = ab.WordScores(module, processor, prompt, length=8).eval()
    (found,) = scores.found(image, 0.0)
    inputs = processor(text=prompt, return_tensors="pt")
    masks = {name: inputs[name] for name in ("input_ids", "attention_mask")}
    caption = module.generate(image, **masks, do_sample=False, max_new_tokens=8)[0]
    start = masks["input_ids"].shape[1] - 1  # without the token of the end
    text = processor.tokenizer.decode(caption[start:], skip_special_tokens=True)
    assert [word.name for word in found] == words.WORD.findall(text)

    trace = ab.trace(
        scores,
        scores.default_layer,
        (image.expand(len(found), -1, -1, -1), torch.stack([word.place for word in found])),
        [word.label for word in found],
        reshape="tokens",
        output="logits",
    )
    block = module.vision_model.encoder.layers[-1]
    positions = [int(word.place[0]) for word in found]
    counts = [int(word.place[1]) for word in found]

    def plain(keep):
        def without(block, inputs, output):
            return torch.cat([output[:, :1], output[:, 1:] * keep], 1)

        handle = block.register_forward_hook(without)
        try:
            with torch.no_grad():
                logits = module(image, caption[None]).logits[0]
        finally:
            handle.remove()
        return torch.stack(
            [
                sum(
                    logits[start + at - 1, caption[start + at]]
                    for at in range(first, first + count)
                )
                for first, count in zip(positions, counts, strict=True)
            ]
        )

    keep = torch.ones(16, dtype=torch.float64)
    torch.testing.assert_close(trace.scores, plain(keep), **DIGITS)
    keep[3] = 0
    drops = trace.ablation_drops[:, 3]
    torch.testing.assert_close(drops, trace.scores - plain(keep), **DIGITS)
    assert drops.abs().max() > 1e-6


def test_an_encoder_of_the_prompt_is_refused():
    module, processor = blip2()
    module.config.text_config.is_encoder_decoder = True  # as of a BLIP-2 with T5
    with pytest.raises(ab.BenchError, match="reads its prompt by an encoder"):
        ab.WordScores(module, processor, PROMPT)


def test_a_network_that_generates_other_tokens_is_refused():
    """PaliGemma does so if the tokens of its text see later ones."""
    scores = ab.WordScores(*paligemma(), PROMPT, length=8).eval()
    image = described(scores)
    scores.module.module.config.model_type = "other"
    with pytest.raises(ab.BenchError, match="generates other tokens than the most probable ones"):
        scores.found(image, 0.0)


class Letters:
    """A text network whose tokens are pieces of a text."""

    end = 0

    def __init__(self, *pieces):
        self.pieces = pieces

    def decode(self, tokens):
        return "".join(self.pieces[token] for token in tokens)


@pytest.mark.parametrize(
    ("pieces", "expected"),
    [
        ((" a", " tele", "vision", "."), [("a", 0, 1), ("television", 1, 2)]),
        (("hot", "-", "dog", "'s"), [("hot-dog's", 0, 4)]),
        (("ein ", "Ã", "¼ber"), [("ein", 0, 1), ("Ã¼ber", 1, 2)]),
        (("red cat", "s"), [("red", 0, 1), ("cats", 0, 2)]),
        ((" ...", "!"), []),
    ],
)
def test_words_are_made_of_tokens(pieces, expected):
    found = words.words_of(range(len(pieces)), Letters(*pieces))
    assert [(word.text, word.first, word.count) for word in found] == expected


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"output": "logit"}, "did you mean 'logits'"),
        ({"text": "..."}, "has no word"),
        ({"text": TEXT * 9}, "set length="),
    ],
)
def test_a_mistake_is_one_sentence(network, arguments, message):
    with pytest.raises(ab.BenchError, match=message):
        ab.WordScores(*network, PROMPT, **arguments)


def refuse(**inputs):
    raise ValueError("no token of an image")


def of_tiles(**inputs):
    return {"pixel_values": torch.zeros(1, 5, 3, 8, 8)}


@pytest.mark.parametrize(
    ("processor", "message"),
    [
        (refuse, "image \\(no token of an image\\); load the processor of this network's own"),
        (lambda **inputs: {}, "makes no pixels of an image; give what AutoProcessor loads"),
        (of_tiles, "makes pixels \\(1, 5, 3, 8, 8\\) of an image. Words are explained for"),
    ],
)
def test_another_processor_is_refused(network, processor, message):
    with pytest.raises(ab.BenchError, match=message):
        ab.WordScores(network[0], processor, PROMPT)


def explain(folder, *words):
    """The exit code of explaining the photograph by the checkpoint."""
    model = ["--model", str(folder / "llava"), "--output", str(folder / "maps.png")]
    return main(["explain", str(folder / "photo.png"), *model, "--overwrite", *words])


@pytest.mark.slow
def test_words_are_explained_by_the_command(checkpoint, capsys):
    chosen = ["--methods", "grad_cam,xgrad_cam", "--words", "hot-dog,Cat"]
    text = f"model.kwargs.text='{TEXT}'"
    assert explain(checkpoint, "--prompt", 'What\'s "this"?', text, *chosen) == 0
    printed = capsys.readouterr().out
    assert 'What\'s \\"this\\"? ASSISTANT:' in printed or 'What\\\'s "this"? ASSISTANT:' in printed
    assert "the text is 'a cat, left of the hot-dog'" in printed
    assert "the model wouldn't say 'cat' there" in printed
    with Image.open(checkpoint / "maps.png") as picture:
        assert picture.height > picture.width  # the heading and two words


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "needs a prompt: set"),
        (("--prompt", "What?", f"model.kwargs.text='{TEXT}'", "--words", "dog"), "without 'dog'"),
        (("--prompt", "What?", "model.kwargs.text='...'"), "has no word"),
    ],
)
def test_a_mistake_at_the_command_is_one_sentence(checkpoint, capsys, words, message):
    assert explain(checkpoint, *words) == 2
    assert message in capsys.readouterr().err


@pytest.mark.slow
def test_a_network_without_a_text_has_no_words(checkpoint, capsys):
    photo = str(checkpoint / "photo.png")
    assert main(["explain", photo, "--model", "scenes_vgg", "--words", "cat"]) == 2
    assert "scenes_vgg says no text, so it has no --words" in capsys.readouterr().err
    with composed(["model=scenes_vgg", "model.output=words"]) as composition:
        model = composition.plain_job()["model"]
    with pytest.raises(ab.BenchError, match="scenes_vgg says no text about an image"):
        load_model(model)


@pytest.mark.slow
def test_a_run_has_a_row_for_each_word_and_a_second_one_computes_nothing(checkpoint, tmp_path):
    photos = tmp_path / "photos"
    photos.mkdir()
    (photos / "photo.png").write_bytes((checkpoint / "photo.png").read_bytes())
    settings = [
        "model=huggingface",
        f"model.checkpoint={checkpoint / 'llava'}",
        "model.kwargs.prompt=What?",
        f"model.kwargs.text='{TEXT}'",
        "data=folder",
        f"data.root={photos}",
        "method=[grad_cam,xgrad_cam]",
        "metric=[conservation_error,single_deletion,energy_pointing_game]",
        f"results={tmp_path}",
        "runtime.repeats=0",
        "pictures.rows=0",
        "pictures.gallery=6",
    ]
    code, failures, folder = compute(settings)
    assert (code, failures) == (0, [])
    records = ab.read_run(folder)
    assert records.groupby("method")["image_id"].nunique().to_dict() == {
        "grad_cam": 6,
        "xgrad_cam": 6,
    }
    statuses = records.groupby("metric")["status"].unique().map(list).to_dict()
    assert statuses == {
        "conservation_error": ["ok"],
        "single_deletion": ["ok"],
        "energy_pointing_game": ["no_annotation"],  # nobody knows where a word's object is
    }
    gallery = store.read_gallery(folder, reading.read_manifest(folder))
    names = {row["image_id"]: row["target_name"] for row in gallery}
    assert [names[row] for row in sorted(names)] == ["a", "cat", "left", "of", "the", "hot-dog"]

    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*.parquet")}
    compute(settings)
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*.parquet")} == before


@pytest.mark.slow
def test_a_word_that_names_a_class_has_its_boxes_and_every_word_the_effects_of_parts(
    checkpoint, tmp_path
):
    digits = "0123456789"
    settings = [
        "model=huggingface",
        f"model.checkpoint={checkpoint / 'llava'}",
        "model.kwargs.prompt=What?",
        f"model.kwargs.text='{' '.join(digits)} and'",
        "data=captions",
        "data.size=2",
        "method=[grad_cam,raw_attention,other_object]",
        "metric=[energy_pointing_game,object_effects,object_correlation]",
        f"results={tmp_path}",
        "runtime.repeats=0",
        "pictures.rows=0",
    ]
    code, failures, folder = compute(settings)
    assert (code, failures) == (0, [])
    records = ab.read_run(folder)
    # values of the network and the image alone have the method "-"
    of_method = records[records["method"].isin(["raw_attention", "-"])]
    rows = of_method.pivot(index="image_id", columns="metric", values="value")
    assert rows["object_correlation"].notna().all()
    for number in range(2):
        shown = {label for label, _ in captions.draw("evaluation", 0, number).objects}
        image = f"captions-evaluation-0-{number:06d}"
        own = rows[rows.index.str.startswith(image)].sort_index()
        assert len(own) == len(digits) + 1
        has_box = own["energy_pointing_game"].notna().tolist()
        assert has_box == [digit in shown for digit in range(len(digits))] + [False]
        # Only a shown digit is an object of the word's class, and the shares add up to 1.
        is_own = (own["object_effects"] > 0).tolist()
        assert is_own == has_box
        shares = own[[name for name in own if name.startswith("object_effects")]]
        torch.testing.assert_close(torch.tensor(shares.sum(axis=1).tolist()), torch.ones(len(own)))


@pytest.mark.slow
@pytest.mark.parametrize(
    "method", ["raw_attention", "rollout", "transformer_attribution", "legrad"]
)
def test_attention_of_eager_code_has_a_step_that_helps(image, method):
    """Public: QwenLM/Qwen3-VL 1106, where attn_implementation="eager" is the advice."""
    module, processor = llava()
    module.set_attn_implementation("eager")
    scores = ab.WordScores(module.double(), processor, PROMPT, TEXT).eval()
    found = scores.found(image, 0.0)[0][:2]
    explain = plugins.load("method", method)
    with pytest.raises(ab.BenchError, match=r"type model\.set_attn_implementation\('sdpa'\)"):
        explain(traced(scores, image, found))
    module.set_attn_implementation("sdpa")
    assert explain(traced(scores, image, found)).raw.any()


@pytest.mark.slow
@pytest.mark.parametrize("output", words.SCORES)
def test_words_share_the_passes_of_their_drops(network, image, output):
    scores = ab.WordScores(*network, PROMPT, TEXT, output).eval()
    other = ab.WordScores(*network, PROMPT, " a dog", output).eval()
    (found,) = scores.found(image, 0.0)
    texts = [*reversed(found), *other.found(image, 0.0)[0], *other.found(noise(2), 0.0)[0]]
    images = torch.cat([*[image] * (len(found) + 2), *[noise(2)] * 2])
    trace = traced(scores, images, texts)
    before = trace.passes.head_forward
    drops = trace.drops.values
    # Three texts: a trace and its unchanged scores, and the 16 channels of each.
    assert trace.passes.head_forward - before <= 3 * (2 + 16)

    alone = [
        traced(scores, row, [word]).drops.values
        for row, word in zip(images.split(1), texts, strict=True)
    ]
    torch.testing.assert_close(drops, torch.cat(alone), **DIGITS)
    assert drops.abs().amin(1).max() > 0  # the words depend on the channels


@pytest.mark.slow
def test_words_share_the_passes_of_a_budget_of_channels(network, image):
    scores = ab.WordScores(*network, PROMPT, TEXT).eval()
    (found,) = scores.found(image, 0.0)
    trace = traced(scores, image, found)
    cut = ab.cut(scores, LAYER, reshape="tokens", output="logits", ablation_channels=3)
    limited = cut.trace((trace.images, *trace.other_inputs), trace.targets)
    assert limited.drops.exact.all()  # the sample holds the remaining 13 of 16 channels
    torch.testing.assert_close(limited.drops.values, trace.drops.values, **DIGITS)


@pytest.mark.slow
@pytest.mark.parametrize("output", words.SCORES)
def test_words_share_the_passes_of_their_traces(network, image, output):
    scores = ab.WordScores(*network, PROMPT, TEXT, output).eval()
    (found,) = scores.found(image, 0.0)
    first = traced(scores, image, found)
    before = replace(first.passes)
    again = first.again()
    spent = (
        first.passes.trunk_forward - before.trunk_forward,
        first.passes.head_forward - before.head_forward,
        first.passes.head_backward - before.head_backward,
    )
    assert spent == (1, 1, len(found))
    first.drops  # noqa: B018 - its passes are counted
    assert first.passes.trunk_forward - before.trunk_forward == 1
    torch.testing.assert_close(again.gradients, first.gradients, rtol=0, atol=0)

    # a plain pass of each word, whose gradient goes through the tower's block
    module, _ = network
    block = module.get_submodule(BLOCK)
    images = image.expand(len(found), -1, -1, -1)
    for row, word in enumerate(found):
        kept = []
        handle = block.register_forward_hook(lambda *call, kept=kept: kept.append(call[2]))
        try:
            logits = scores(images[:1], word.place[None].double())
        finally:
            handle.remove()
        (gradient,) = torch.autograd.grad(logits[0, word.label], kept)
        maps = gradient[0, 1:].T.unflatten(1, first.gradients.shape[2:])
        torch.testing.assert_close(first.gradients[row], maps, **DIGITS)


@pytest.mark.slow
def test_the_shared_pass_of_a_text_is_checked_by_its_scores_alone(network, image, monkeypatch):
    scores = ab.WordScores(*network, PROMPT, TEXT).eval()
    (found,) = scores.found(image, 0.0)
    calls = []
    token_scores = words.token_scores

    def counted(*arguments):
        calls.append(1)
        return token_scores(*arguments)

    monkeypatch.setattr(words, "token_scores", counted)
    expected = traced(scores, image, found)
    with_fewer_checks = len(calls)
    monkeypatch.setattr(preparing, "same_step", lambda point, proved: None)
    actual = traced(scores, image, found)
    assert with_fewer_checks < len(calls) - with_fewer_checks
    assert torch.equal(actual.gradients, expected.gradients)


@pytest.mark.slow
def test_hooks_that_change_the_scores_are_part_of_the_shared_pass(image):
    changed, processor = llava()
    changed = changed.double()
    changed.lm_head.register_forward_hook(lambda module, inputs, output: output * 2)
    scores = ab.WordScores(changed, processor, PROMPT, TEXT).eval()
    (found,) = scores.found(image, 0.0)

    trace = traced(scores, image, found)

    assert trace.joined is not None
    places = torch.stack([word.place for word in found]).double()
    with torch.no_grad():
        logits = scores(image.expand(len(found), -1, -1, -1), places)
    torch.testing.assert_close(trace.logits, logits, **DIGITS)


@pytest.mark.slow
def test_a_step_is_proved_anew_if_it_gives_other_scores(network, image):
    scores = ab.WordScores(*network, PROMPT, TEXT).eval()
    trace = traced(scores, image, scores.found(image, 0.0)[0][:1])
    cut_model = trace.cut_model
    proved = cut_model.trunk_and_head
    point = CutPoint(
        network=ScoredNetwork(cut_model.model, None),
        layer=cut_model.layer,
        reshape=None,
        image=trace.images,
        scores=trace.logits,
        num_calls=1,
        views=None,
        has_mates=False,
        needs_gradient=False,
    )
    with bound(cut_model.model, trace.other_inputs):
        assert same_step(point, proved) is not None
        assert same_step(replace(point, scores=trace.logits + 1), proved) is None
        graph = replace(proved, capture=Capture(Step.GRAPH))
        assert same_step(point, graph) is None


@pytest.mark.slow
def test_words_of_a_shared_pass_are_sliced_padded_and_given_other_classes(network, image):
    scores = ab.WordScores(*network, PROMPT, TEXT).eval()
    (found,) = scores.found(image, 0.0)
    trace = traced(scores, image, found)
    part = trace[1:4]
    torch.testing.assert_close(part.drops.values, trace.drops.values[1:4], **DIGITS)
    torch.testing.assert_close(part.head(part.activations), part.logits, **DIGITS)

    padded = traced(scores, image, [*found, *found[-1:] * 2])
    backward = padded.passes.head_backward
    padded.again()
    assert padded.passes.head_backward - backward == len(found)  # equal rows share one

    targets = (trace.targets + 1) % trace.logits.shape[1]
    other = trace.again(targets=targets)
    alone = [trace[row : row + 1].again(targets=targets[row : row + 1]) for row in range(3)]
    for name in ("scores", "gradients", "ablation_drops"):
        expected = torch.cat([getattr(row, name) for row in alone])
        torch.testing.assert_close(getattr(other, name)[:3], expected, **DIGITS)
    mean = trace.gradient_of(lambda outputs: outputs.mean(1))
    assert mean.shape == trace.gradients.shape


@pytest.mark.slow
def test_half_precision_rounds_no_token(image):
    module, processor = llava()
    scores = ab.WordScores(module.bfloat16(), processor, PROMPT, TEXT).eval()
    (found,) = scores.found(image, 0.0)
    trace = traced(scores, image, found)
    assert max(scores.text) > 256  # numbers that bfloat16 rounds
    logits = scores(image[:1].bfloat16(), found[-1].place[None])
    assert trace.scores[-1] == logits[0, found[-1].label]
    assert torch.equal(trace.other_inputs[0], torch.stack([word.place for word in found]))


@pytest.mark.slow
def test_a_note_on_costly_drops_says_that_words_share_them(network, image, monkeypatch):
    scores = ab.WordScores(*network, PROMPT, TEXT).eval()
    trace = traced(scores, image, scores.found(image, 0.0)[0])
    assert 1 < trace.drops_cost <= 17  # 16 channels and the unchanged score, through the head
    monkeypatch.setattr(shards, "MOST_PASSES", 1)
    sentence = shards.costly_drops(trace, ["~method.ablation_cam"])
    assert sentence == (
        f"ablation drops cost about {trace.drops_cost:,.0f} forward passes for each image, whose "
        f"words share them ({trace.capture}); leave out what needs them (~method.ablation_cam), or "
        "ablate fewer channels (device.ablation_channels=64)"
    )
