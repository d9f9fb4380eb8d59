"""Tests of the captioned scenes, of the networks that describe them, and of the planted words."""

import json

import numpy as np
import pytest
import torch
import train_captioner
from PIL import Image
from safetensors.torch import load_file
from torch import nn

import axiom_bench as ab
from axiom_bench.cli.benchmark import compute
from axiom_bench.cli.main import main
from axiom_bench.data.embedded import Captions
from axiom_bench.embedded import captioner, captions, networks, planted, scenes
from axiom_bench.embedded.captions import CAPTIONED, WORDS
from axiom_bench.errors import BenchError
from axiom_bench.evaluation import plugins
from axiom_bench.models.load import load_model
from axiom_bench.models.spec import model_config
from axiom_bench.run import objects

COUNT = 200
NAMES = tuple(train_captioner.RECIPES)
DIGITS = {"rtol": 1e-9, "atol": 1e-11}  # of a few sums of float64


def sentence(scene):
    return " ".join(WORDS[word] for word in scene.caption).replace(" ,", ",")


@pytest.fixture(scope="module")
def drawn():
    return [captions.draw("evaluation", 0, number) for number in range(COUNT)]


@pytest.mark.slow
def test_a_sentence_names_the_larger_digit_first_and_where_it_is(drawn):
    for scene in drawn:
        words = sentence(scene).replace(",", "").split()
        (label, large), *others = scene.objects
        assert words[:3] == ["a", str(label), "on"]
        assert words[3] in captions.GROUND_WORDS
        if not others:
            assert len(words) == 4
            continue
        ((other, small),) = others
        assert words[-2:] == ["a", str(other)]
        right = (large[0] + large[2] - small[0] - small[2]) / 2
        down = (large[1] + large[3] - small[1] - small[3]) / 2
        relation = {
            "left": -right,
            "right": right,
            "above": -down,
            "below": down,
        }
        assert max(relation, key=relation.get) == words[4]
        assert (scene.mask == label).sum() > (scene.mask == other).sum()


@pytest.mark.slow
def test_every_word_of_the_vocabulary_occurs_and_no_sentence_is_too_long(drawn):
    assert {word for scene in drawn for word in scene.caption} == {*range(len(WORDS))}
    assert max(len(scene.caption) for scene in drawn) == captioner.LONGEST


def test_the_word_of_the_ground_is_that_of_the_drawn_pattern():
    # The ground that a scene's random numbers draw, from the first of them on, is the scene's.
    for number in range(8):
        drawing = scenes.make_drawing("evaluation", 0, number, CAPTIONED)
        rng = CAPTIONED.rng("evaluation", 0, number)
        ground, _ = CAPTIONED.ground(rng, "evaluation")
        assert np.array_equal(ground, drawing.ground)


def test_splits_have_other_grounds():
    grounds = [scenes.make_drawing(split, 0, 3, CAPTIONED).ground for split in scenes.SPLITS]
    assert len({ground.tobytes() for ground in grounds}) == len(scenes.SPLITS)


def test_the_data_set_has_the_scenes_and_their_parts(drawn):
    data = Captions(4, 0)
    assert data.ids[3] == "captions-evaluation-0-000003"
    assert data.classes == tuple("0123456789")
    sample = data.read(3)
    assert np.array_equal(np.asarray(sample.image), drawn[3].image)
    *objects, ground = data.interventions(3)
    assert {part.label for part in objects} == {label for label, _ in drawn[3].objects}
    assert ground.label is None


@pytest.mark.parametrize("name", NAMES)
def test_words_are_encoded_and_decoded(name):
    network = captioner.BUILDERS[name]()
    text = "a 7 on stripes, left of a 3"
    assert network.decode(network.encode(text)) == text
    with pytest.raises(BenchError, match="no word 'dog' in this network"):
        network.encode("a dog")


@pytest.mark.parametrize("name", NAMES)
def test_a_word_does_not_depend_on_later_words(name):
    network = captioner.BUILDERS[name]().double().eval()
    images = torch.randn(1, 3, 96, 96, dtype=torch.float64)
    text = torch.tensor([network.encode("a 7 on stripes, left of a 3")])
    changed = text.clone()
    changed[0, 5:] = WORDS.index("rings")
    with torch.no_grad():
        before = network(images, text)
        after = network(images, changed)
    assert torch.equal(before[:, :6], after[:, :6])
    assert not torch.allclose(before[:, 6:], after[:, 6:])


@pytest.fixture(scope="module", params=NAMES)
def described(request, drawn):
    """A trained network, images of scenes in float64, and the words that it says of the first."""
    network = load_model(model_config(request.param)).module
    scores = ab.WordScores(network.module.double()).eval()
    pixels = np.stack([scene.image for scene in drawn[:50]])
    images = (torch.from_numpy(pixels).movedim(3, 1).double() / 255 - 0.5) / 0.25
    (found,) = scores.found(images[:1], 0)
    return scores, images, found


@pytest.mark.slow
def test_the_network_describes_scenes(described, drawn):
    scores, images, _ = described
    said = [scores.text_of(found) for found in scores.found(images, 0)]
    right = sum(text == sentence(scene) for text, scene in zip(said, drawn[:50], strict=True))
    assert right >= 45  # of 50; the test below has the share of 2,000


@pytest.mark.parametrize("name", NAMES)
def test_weights_are_small_and_each_class_of_words_is_learned(name):
    files = networks.weights_files(name)
    assert {"default", "seed1", "seed2"} <= files.keys()
    for file in files.values():
        weights = load_file(file)
        assert {value.dtype for value in weights.values()} == {torch.float16}
        entry = json.loads(file.with_name("training.json").read_text(encoding="utf-8"))[file.stem]
        assert entry["parameters"] == sum(value.numel() for value in weights.values()) < 450_000
        for split in ("validation", "test"):
            assert min(entry[split][words] for words in train_captioner.WORD_CLASSES) >= 0.97


def test_a_series_of_trainings_goes_on_where_it_stopped(monkeypatch, capsys):
    begun = []
    monkeypatch.setattr(train_captioner, "trained", lambda *training: begun.append(training[:2]))
    monkeypatch.setattr(train_captioner, "measure", lambda *training: {})
    monkeypatch.setattr(train_captioner, "save", lambda *training, half: None)
    monkeypatch.setattr(train_captioner, "write_settings", lambda *training: None)
    train_captioner.main(["scenes_vlm", "--seeds", "4", "5"])
    assert begun == [("scenes_vlm", 5)]
    assert "scenes_vlm_seed4.safetensors exists; --again" in capsys.readouterr().out
    train_captioner.main(["scenes_vlm", "--seeds", "4", "--again"])
    assert begun[1:] == [("scenes_vlm", 4)]


@pytest.mark.parametrize("name", NAMES)
def test_folding_batch_norm_changes_nothing(name):
    torch.manual_seed(0)
    network = captioner.BUILDERS[name](batch_norm=True).eval()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2)
        elif isinstance(module, nn.LayerNorm):
            nn.init.normal_(module.weight)
    folded = train_captioner.folded(name, network).double()
    network = network.double()
    images = torch.randn(2, 3, 96, 96, dtype=torch.float64)
    text = torch.randint(0, captioner.END, (2, 10))
    expected = network(images, text)
    # the folded weights are in float32
    assert (folded(images, text) - expected).abs().max() < 1e-5 * expected.abs().max()


def traced(scores, images, found):
    places = torch.stack([word.place for word in found]).double()
    labels = torch.tensor([word.label for word in found])
    images = images[:1].expand(len(found), -1, -1, -1)
    layer = scores.default_layer
    reshape = "tokens" if "blocks" in layer else None
    return ab.trace(scores, layer, (images, places), labels, output="logits", reshape=reshape)


@pytest.mark.slow
def test_drops_of_words_equal_passes_without_a_channel(described):
    scores, images, found = described
    words = found[:3]
    trace = traced(scores, images, words)
    drops = trace.ablation_drops
    layer = scores.get_submodule(scores.default_layer)
    axis = 1 if isinstance(layer, nn.ReLU) else 2  # of the channels
    for channel in range(0, 64, 13):
        hook = layer.register_forward_hook(
            lambda module, inputs, output, channel=channel: output.index_fill(
                axis, torch.tensor([channel]), 0
            )
        )
        with torch.no_grad():
            places = torch.stack([word.place for word in words]).double()
            logits = scores(images[:1].expand(3, -1, -1, -1), places)
        hook.remove()
        without = logits[range(3), [word.label for word in words]]
        torch.testing.assert_close(drops[:, channel], trace.scores - without, **DIGITS)


def attentions_by_hand(network, image, text):
    """The attention probabilities of each block of the decoder, and the logits (1, L, V).

    The probabilities, (1, HEADS, N, N), are in the graph of the logits.
    """
    tokens = network.see(image)
    before = torch.cat([torch.full_like(text[:, :1], captioner.END), text[:, :-1]], 1)
    tokens = torch.cat([tokens, network.words(before) + network.times[: text.shape[1]]], 1)
    mask = network.mask[: tokens.shape[1], : tokens.shape[1]]
    attentions = []
    for block in network.blocks:
        projected = block.queries_keys_values(block.norm1(tokens))
        query, key, value = projected.unflatten(2, (3, captioner.HEADS, -1)).permute(2, 0, 3, 1, 4)
        scaled = query @ key.mT / query.shape[3] ** 0.5
        attentions.append(scaled.masked_fill(~mask, -torch.inf).softmax(3))
        tokens = tokens + block.outputs((attentions[-1] @ value).transpose(1, 2).flatten(2))
        tokens = tokens + block.mlp(block.norm2(tokens))
    return attentions, network.logits(network.norm(tokens[:, 144:]))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("method", "params"),
    [("raw_attention", {}), ("rollout", {}), ("transformer_attribution", {})],
)
def test_attention_methods_follow_a_word_through_the_decoder(described, method, params):
    scores, images, found = described
    word = found[1]
    text = word.place[2:][None].long()
    attentions, logits = attentions_by_hand(scores.module, images[:1], text)
    matrices = [attention.mean(1)[0] for attention in attentions]
    eye = torch.eye(len(matrices[0]), dtype=torch.float64)
    if method == "raw_attention":
        product = matrices[-1]
    elif method == "rollout":
        product = eye
        for matrix in matrices:
            product = (matrix + eye) / 2 @ product
    else:
        position = int(word.place[0])
        gradients = torch.autograd.grad(logits[0, position, word.label], attentions)
        product = eye
        for attention, gradient in zip(attentions, gradients, strict=True):
            product = product + (attention * gradient).relu().mean((0, 1)) @ product
    expected = product[144 + int(word.place[0]), :144].view(12, 12)
    trace = traced(scores, images, found[:2])
    maps = plugins.with_params("method", method, params)(trace)
    torch.testing.assert_close(maps.raw[1], expected, **DIGITS)


@pytest.mark.slow
def test_transformer_attribution_of_words_has_no_relevance_rules(described):
    trace = traced(*described)
    with pytest.raises(BenchError, match="form=generic for this network"):
        plugins.with_params("method", "transformer_attribution", {"form": "lrp"})(trace)


@pytest.mark.slow
def test_legrad_of_a_word_sums_the_gradients_of_its_tower(described):
    scores, images, found = described
    legrad = plugins.load("method", "legrad")
    if "blocks" not in scores.default_layer:
        with pytest.raises(BenchError, match=r"'module\.tower\.features\.11' isn't"):
            legrad(traced(scores, images, found[1:2]))
        return
    network = scores.module
    word = found[1]
    text = word.place[2:][None].long()
    tower = network.tower
    tokens = network.tower.features(images[:1]).flatten(2).mT + tower.places
    expected = 0
    for block in tower.blocks:
        projected = block.queries_keys_values(block.norm1(tokens))
        query, key, value = projected.unflatten(2, (3, captioner.HEADS, -1)).permute(2, 0, 3, 1, 4)
        attention = (query @ key.mT / query.shape[3] ** 0.5).softmax(3)
        attention = attention.detach().requires_grad_()
        read = tokens.detach() + block.outputs((attention @ value.detach()).mT.flatten(1, 2).mT)
        after = read + block.mlp(block.norm2(read))
        logits = network.say(network.projector(after) + network.places, text)
        score = logits[0, int(word.place[0]), word.label]
        (gradient,) = torch.autograd.grad(score, attention)
        expected = expected + gradient.relu().mean((0, 1, 2))
        tokens = after.detach()
    raw = legrad(traced(scores, images, found[:2])).raw
    torch.testing.assert_close(raw[1].flatten(), expected, **DIGITS)


def test_planted_words_read_their_half_and_nothing_else():
    scores = ab.WordScores(planted.planted_words().double()).eval()
    generator = torch.Generator().manual_seed(0)
    image = torch.rand(1, 3, 96, 96, generator=generator, dtype=torch.float64) * 4 - 2
    (found,) = scores.found(image, 0)
    assert [word.name for word in found] == ["left", "and", "right"]
    trace = traced(scores, image, found)
    truth = trace.true_contributions
    torch.testing.assert_close(truth.flatten(1).sum(1), trace.scores, **DIGITS)
    assert not truth[0, ..., 8:].any()
    assert truth[0, ..., :8].any()
    assert not truth[1].any()
    assert not truth[2, ..., :8].any()


def test_another_word_is_a_content_word_of_another_spelling(described):
    scores, _, found = described
    by_word = {word.name: word for word in found}
    other = scores.other(found, by_word["on"].place)
    assert other.name == found[1].name  # the digit
    assert scores.other(found, found[1].place).name == found[3].name  # the ground


@pytest.mark.slow
def test_the_page_of_an_explained_scene_counts_words(tmp_path, drawn):
    scene = tmp_path / "scene.png"
    Image.fromarray(drawn[0].image).save(scene)
    page = tmp_path / "maps.html"
    options = ["--model", "scenes_vlm", "--words", "all", "--methods", "layer_cam"]
    assert main(["explain", str(scene), *options, "--output", str(page)]) == 0
    count = sum(word.isalnum() for word in sentence(drawn[0]).replace(",", "").split())
    assert f"All {count} words" in page.read_text(encoding="utf-8")


def test_an_image_is_described_once_for_all_its_rows(described, monkeypatch):
    scores, images, _ = described
    answer = captioner.Captioner.answer
    calls = []

    def counted(network, image, length):
        calls.append(len(image))
        return answer(network, image, length)

    monkeypatch.setattr(captioner.Captioner, "answer", counted)
    found = scores.found(images[[0, 0, 1, 0]], 0)
    assert calls == [1, 1, 1]
    assert [scores.text_of(each) for each in found[:2]] == [scores.text_of(found[3])] * 2
    assert scores.text_of(found[2]) != scores.text_of(found[0])


@pytest.mark.slow
def test_progress_counts_each_described_image(tmp_path, monkeypatch):
    advances = []
    monkeypatch.setattr(objects, "advance", advances.append)
    settings = ["model=scenes_vlm", "data.size=5", "method=grad_cam", "metric=conservation_error"]
    fast = [f"results={tmp_path}", "runtime.repeats=0", "pictures.rows=0"]
    for expected in ([1] * 5, [5]):  # the second run reads the words from the run folder
        code, failures, _ = compute([*settings, *fast])
        assert (code, failures, advances) == (0, [], expected)
        advances.clear()


def test_an_unknown_word_of_a_text_is_one_error():
    with pytest.raises(BenchError, match="no word 'up' in this network; there are: and, left"):
        ab.WordScores(planted.planted_words(), text="left and up")
