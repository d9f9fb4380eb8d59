"""Networks with several inputs, against the same networks with each image's other inputs built
in.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pandas as pd
import pytest
import torch
from torch import Tensor, nn

import axiom_bench as ab
from axiom_bench import methods, metrics
from axiom_bench.evaluation.plugins import with_params
from tests.methods import plain
from tests.metrics import build

SIZE = 12
LAYER = "features"


class TwoBranches(nn.Module):
    """Images, whose maps are scaled behind the layer as metadata say, and joined with metadata and
    a word.

    hard: with a branch by the data, which torch.fx can't follow. built_in: of one image, then it
    takes images alone.
    """

    def __init__(self, hard: bool = False, built_in: tuple[Tensor, ...] = ()) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.hard = hard
        layers = [nn.Conv2d(3, 6, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(6, 5, 3), nn.ReLU()]
        self.features = nn.Sequential(*layers)
        self.film = nn.Linear(2, 5)
        self.words = nn.Embedding(7, 3)
        self.fc = nn.Linear(5 * 9 + 2 + 3, 8)
        self.out = nn.Linear(8, 4)
        self.double()
        for name, value in zip(("metadata", "word"), built_in, strict=False):
            self.register_buffer(name, value)

    def forward(self, image: Tensor, metadata: Tensor, word: Tensor) -> Tensor:
        maps = self.features(image) * (1 + self.film(metadata))[:, :, None, None]
        if self.hard and maps.sum() > 1e9:
            return maps
        joined = torch.cat([maps.flatten(1), metadata, self.words(word)], 1)
        return self.out(self.fc(joined).relu())


class BuiltIn(TwoBranches):
    def forward(self, image: Tensor) -> Tensor:
        rows = image.shape[0]
        return super().forward(image, self.metadata.expand(rows, 2), self.word.expand(rows))


class OfDict(TwoBranches):
    def forward(self, batch: dict[str, Tensor]) -> Tensor:
        return super().forward(batch["image"], batch["metadata"], batch["word"])


class Siamese(nn.Module):
    """One encoder for two images; hard: as torch.fx can't follow."""

    def __init__(self, hard: bool = False) -> None:
        super().__init__()
        self.hard = hard
        torch.manual_seed(1)
        self.features = nn.Sequential(nn.Conv2d(3, 6, 3), nn.ReLU()).double()
        self.out = nn.Linear(18, 4).double()

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        one = self.features(first).mean((2, 3))
        other = self.features(second).mean((2, 3))
        if self.hard and one.sum() > 1e9:
            return one
        return self.join(one, other)

    def join(self, one: Tensor, other: Tensor) -> Tensor:
        return self.out(torch.cat([one, other, one * other], 1))


torch.manual_seed(2)
IMAGE = torch.randn(3, 3, SIZE, SIZE).double()
METADATA = torch.randn(3, 2).double()
WORD = torch.tensor([4, 0, 6])
INPUTS = (IMAGE, METADATA, WORD)
BY_NAME = {"image": IMAGE, "metadata": METADATA, "word": WORD}
PAIR = (IMAGE, IMAGE.flip(0, 3) + 0.1)


def of_row(row: int) -> tuple[nn.Module, Tensor]:
    """Return the network of one image, and the image."""
    rows = slice(row, row + 1)
    return BuiltIn(built_in=(METADATA[rows], WORD[rows])), IMAGE[rows]


def close(values: Tensor, expected: Tensor) -> None:
    """Up to the rounding of float64, of products with other numbers of rows, and of what is divided
    by small sums.
    """
    torch.testing.assert_close(values, expected, rtol=1e-9, atol=1e-9, equal_nan=True)


@pytest.mark.parametrize("hard", [False, True], ids=["torch.fx", "hooks"])
def test_exact_drops_equal_a_loop(hard):
    model = TwoBranches(hard)
    trace = ab.trace(model, LAYER, INPUTS)

    def score(part: ab.Trace, rows: list[int]) -> Tensor:
        logits = model(IMAGE[rows], METADATA[rows], WORD[rows])
        return logits.gather(1, part.targets[:, None])[:, 0]

    for part, rows in (
        (trace, [0, 1, 2]),
        (trace[1:], [1, 2]),
        (trace.again(targets=trace.targets), [0, 1, 2]),
    ):
        scores = score(part, rows)
        close(part.scores, scores)
        for channel in range(5):
            hook = lambda _, __, maps, k=channel: maps.index_fill(1, torch.tensor(k), 0)  # noqa: E731
            handle = model.features.register_forward_hook(hook)
            ablated = score(part, rows)
            handle.remove()
            close(part.ablation_drops[:, channel], scores - ablated)
    close(trace.at("features.0").scores, trace.scores)
    close(ab.trace(ab.FixedDraws(model), LAYER, INPUTS).ablation_drops, trace.ablation_drops)
    metadata, word = trace[1:].other_inputs
    assert torch.equal(metadata, METADATA[1:])
    assert torch.equal(word, WORD[1:])


WITH_BASELINE = with_params("method", "score_cam", {"channel_softmax": False})


@pytest.mark.parametrize(
    "method",
    [*map(plain.with_fewer, methods.names()), WITH_BASELINE],
    ids=lambda method: method.name,
)
def test_a_method_explains_as_if_the_other_inputs_were_built_in(method):
    maps = ab.explain(TwoBranches(), LAYER, INPUTS, [method])
    for row in (0, 2) if maps else ():
        network, image = of_row(row)
        close(maps[method.name][row], ab.explain(network, LAYER, image, [method])[method.name][0])


def test_metrics_measure_as_if_the_other_inputs_were_built_in():
    region = torch.zeros(SIZE, SIZE, dtype=torch.bool)
    region[2:7, 3:9] = True
    ground = ab.Part("ground", None, ~region, IMAGE[:1])
    parts = []
    for image in IMAGE:
        without_object = image.masked_fill(region, 0)[None]
        parts.append((ab.Part("object", 1, region, without_object), ground))
    boxes = torch.tensor([[3.0, 2, 9, 7]])
    annotation = ab.Annotation(torch.tensor([1]), boxes, torch.where(region, 1, -1))
    batch = ab.Batch(
        IMAGE,
        ("0", "1", "2"),
        torch.ones(3).long(),
        (annotation,) * 3,
        tuple(parts),
        IMAGE.flip(0),
        (METADATA, WORD),
    )
    all_metrics = [build.with_fewer(name) for name in metrics.names()]
    with_inputs = replace(batch, images=INPUTS, other_inputs=())
    values = ab.evaluate(TwoBranches(), LAYER, [with_inputs], ["xgrad_cam"], all_metrics)
    tables = []
    for row in range(3):
        network, _ = of_row(row)
        alone = replace(batch[row : row + 1], other_inputs=())
        tables.append(ab.evaluate(network, LAYER, [alone], ["xgrad_cam"], all_metrics))

    def values_of_images(table: pd.DataFrame) -> pd.DataFrame:
        key = ["image_id", "method", "metric"]
        return table[table.image_id != "*"].set_index(key).sort_index()

    values = values_of_images(values)
    expected = values_of_images(pd.concat(tables))
    assert values.status.to_dict() == expected.status.to_dict()
    assert (values.status == "ok").sum() > 200
    pd.testing.assert_series_equal(values.value, expected.value, rtol=1e-9, atol=1e-9)
    metadata, word = batch[1:].repeated(3).other_inputs
    assert torch.equal(metadata, METADATA[[1, 2, 2]])
    assert torch.equal(word, WORD[[1, 2, 2]])


@pytest.mark.parametrize("model", [TwoBranches(), OfDict()], ids=["names", "one dict"])
def test_a_dict_gives_the_same_bits_as_a_tuple(model):
    trace = ab.trace(model, LAYER, BY_NAME)
    expected = ab.trace(TwoBranches(), LAYER, INPUTS)
    assert torch.equal(trace.scores, expected.scores)
    assert torch.equal(trace.ablation_drops, expected.ablation_drops)
    assert ab.explain(model, images=BY_NAME, methods=["grad_cam"]).layer == "features.4"


@pytest.mark.parametrize("explained", [0, 1])
def test_either_of_two_images_is_explained(explained):
    """The cut is at the shared layer's call for this image; the other call's maps stay."""
    model = Siamese()
    trace = ab.trace(model, LAYER, PAIR, explained=explained)
    assert {answer.level for answer in ab.check(model, LAYER, PAIR, explained=explained)} == {"ok"}
    assert torch.equal(trace.images, PAIR[explained])
    assert torch.equal(trace.activations, model.features(PAIR[explained]))
    for channel in range(6):
        maps = [model.features(image) for image in PAIR]
        maps[explained][:, channel] = 0
        logits = model.join(maps[0].mean((2, 3)), maps[1].mean((2, 3)))
        scores = logits.gather(1, trace.targets[:, None])[:, 0]
        close(trace.ablation_drops[:, channel], trace.scores - scores)


class TwoEncoders(nn.Module):
    """Two scans, each with its own layers, those of the second last."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU())
        self.second = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU())
        self.fc = nn.Linear(8, 2)
        self.double()

    def forward(self, mri: Tensor, ct: Tensor) -> Tensor:
        mri -= 0.5  # in place, as normalisation is written
        pooled = [self.first(mri).mean((2, 3)), self.second(ct).mean((2, 3))]
        return self.fc(torch.cat(pooled, 1))


@pytest.mark.parametrize(("explained", "layer"), [("mri", "first.1"), ("ct", "second")])
def test_the_default_layer_is_of_the_explained_input(explained, layer):
    scans = dict(zip(("mri", "ct"), PAIR, strict=True))
    maps = ab.explain(TwoEncoders(), images=scans, methods=["xgrad_cam"], explained=explained)
    assert maps.layer == layer


def test_an_image_with_other_metadata_is_another_row():
    """Copies of an image are classified once for its rows only if all inputs are the same."""

    def single_deletion(network: nn.Module, images: Any, targets: list[int]) -> list[float]:
        batches = [(images, targets)]
        table = ab.evaluate(network, LAYER, batches, ["xgrad_cam"], ["single_deletion"])
        return table.value.tolist()

    copies = IMAGE[:1].expand(3, -1, -1, -1)
    values = single_deletion(TwoBranches(), (copies, METADATA, WORD), [1, 1, 1])
    for row, value in enumerate(values):
        network, _ = of_row(row)
        (expected,) = single_deletion(network, IMAGE[:1], [1])
        assert value == pytest.approx(expected, abs=1e-9)


def cut_twice() -> None:
    cut_model = ab.cut(Siamese(), LAYER)
    cut_model.trace(PAIR, explained=0)
    cut_model.trace(PAIR, explained=1)


def without_rows() -> None:
    ab.trace(TwoBranches(), LAYER, INPUTS).forward(INPUTS[0][:2])


TAKES = r"TwoBranches.forward takes image and metadata and word, not "
MISTAKES: dict[str, tuple[Callable[[], Any], str]] = {
    "rows": (
        lambda: ab.trace(TwoBranches(), LAYER, (IMAGE, METADATA[:2], WORD)),
        r"input 1 has the shape \(2, 2\)",
    ),
    "a missing input": (
        lambda: ab.trace(TwoBranches(), LAYER, (IMAGE, METADATA)),
        TAKES + "2 inputs",
    ),
    "a missing name": (
        lambda: ab.trace(TwoBranches(), LAYER, {"image": IMAGE, "word": WORD}),
        TAKES + "image and w",
    ),
    "another name": (
        lambda: ab.trace(TwoBranches(), LAYER, BY_NAME | {"age": WORD}),
        TAKES + "image and .* and age",
    ),
    "no tensor": (
        lambda: ab.explain(OfDict(), LAYER, BY_NAME | {"word": "cat"}),
        r"'word' is a str, not a t",
    ),
    "explained": (
        lambda: ab.trace(TwoBranches(), LAYER, BY_NAME, explained="imgae"),
        r"'imgae'; did you mean 'image'",
    ),
    "of metadata": (
        lambda: ab.trace(TwoBranches(), LAYER, INPUTS, explained=1),
        r"Invalid images: .* shape \(3, 2\)",
    ),
    "two images": (
        lambda: ab.evaluate(Siamese(), LAYER, [(PAIR, None)], [], []),
        r"0 and 1 has .*explained=0",
    ),
    "of a batch": (
        lambda: ab.trace(of_row(0)[0], LAYER, (IMAGE, WORD)),
        r"takes image, not 2 .* give only the images, images\[0\]",
    ),
    "a batch": (
        lambda: ab.trace(of_row(0)[0], LAYER, {"x": IMAGE, "y": WORD}),
        r"a dict of x and y .* images\['x'\]",
    ),
    "another cut": (cut_twice, r"cut the model again"),
    "images alone": (without_rows, r"to trace.forward the rows"),
    "last call": (
        lambda: ab.trace(Siamese(hard=True), LAYER, PAIR, explained=0),
        r"at its last call, doesn't depend",
    ),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_one_sentence(name):
    call, sentence = MISTAKES[name]
    with pytest.raises(ab.BenchError, match=sentence) as error:
        call()
    assert len(str(error.value)) < 250
    assert "\n" not in str(error.value)
