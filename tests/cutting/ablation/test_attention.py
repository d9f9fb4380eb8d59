"""Attention written out behind the layer has the drops of brute force, by rank-one updates and for
few tokens.
"""

import pytest
import torch
import torch.nn.functional as functional
from torch import Tensor, fx, nn

import axiom_bench as ab
from axiom_bench.cutting.ablation.graph import HeadGraph
from axiom_bench.cutting.ablation.rank_one import RankOne, product_difference
from axiom_bench.cutting.ablation.reading import images_first
from tests.cutting.ablation.heads import brute_force, head_graph
from tests.cutting.conftest import Network

HEADS, WIDTH = 2, 8


def split_heads(x: Tensor) -> Tensor:
    return x.unflatten(-1, (HEADS, -1)).transpose(1, 2)


def project(net, x):
    """Return the queries, keys and values of three linear layers."""
    return [split_heads(layer(x)) for layer in (net.q, net.k, net.v)]


def fused(net, x):
    """timm's: one linear layer, an axis for queries, keys and values that becomes the first."""
    batch, tokens, width = x.shape
    qkv = net.qkv(x).reshape(batch, tokens, 3, HEADS, width // HEADS)
    q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)
    mixed = functional.scaled_dot_product_attention(q, k, v)
    return mixed.transpose(1, 2).reshape(batch, tokens, width)


def indexed(net, x):
    batch, tokens, width = x.shape
    qkv = net.qkv(x).reshape(batch, tokens, 3, HEADS, width // HEADS).permute(2, 0, 3, 1, 4)
    mixed = functional.scaled_dot_product_attention(qkv[0], qkv[1], qkv[2], scale=0.3)
    return mixed.transpose(1, 2).reshape(batch, tokens, width)


def separate(net, x):
    q, k, v = project(net, x)
    return functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)


def written_out(net, x):
    """Swin's: softmax of a product with a bias of relative positions."""
    batch, tokens = x.shape[:2]
    qkv = net.qkv(x).reshape(batch, tokens, 3, HEADS, -1).permute(2, 0, 3, 1, 4)
    q, k, v = qkv.unbind(0)
    logits = (q * (WIDTH // HEADS) ** -0.5) @ k.transpose(-2, -1) + net.bias[None]
    return (functional.softmax(logits, dim=-1) @ v).transpose(1, 2).reshape(batch, tokens, -1)


def split_by_widths(net, x):
    """LeViT's: keys are narrower than values."""
    batch, tokens, width = x.shape
    qkv = net.narrow(x).view(batch, tokens, HEADS, -1)
    q, k, v = qkv.split([2, 2, width // HEADS], dim=3)
    logits = torch.matmul(q.permute(0, 2, 1, 3), k.permute(0, 2, 3, 1)) / 2
    mixed = torch.matmul(logits.softmax(dim=-1), v.permute(0, 2, 1, 3))
    return mixed.transpose(1, 2).reshape(batch, tokens, width)


def masked(net, x):
    q, k, v = project(net, x)
    mixed = functional.scaled_dot_product_attention(q, k, v, attn_mask=net.bias)
    return mixed.transpose(1, 2).flatten(2)


def cosine(net, x):
    """SwinV2's: queries and keys of length 1."""
    q, k, v = project(net, x)
    logits = functional.normalize(q, dim=-1) @ functional.normalize(k, dim=-1).transpose(-2, -1)
    return ((5 * logits).softmax(-1) @ v).transpose(1, 2).flatten(2)


def by_sizes(net, x):
    """Ask for the number of images at each view, as the library transformers does."""
    projections = []
    for layer in (net.q, net.k, net.v):
        projection = layer(x)
        projections.append(split_heads(projection.view(projection.shape[0], -1, WIDTH)))
    q, k, v = projections
    mixed = functional.scaled_dot_product_attention(q, k, v, attn_mask=None, is_causal=False)
    mixed = mixed.reshape(mixed.shape[0], -1, x.shape[1], WIDTH // HEADS)
    mixed = mixed.transpose(1, 2).contiguous()
    return mixed.reshape(mixed.size(0), x.shape[1], -1).contiguous()


def causal(net, x):
    q, k, v = project(net, x)
    mixed = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
    return mixed.transpose(1, 2).flatten(2)


MIXINGS = [fused, indexed, separate, written_out, split_by_widths, masked, cosine, by_sizes]
READS = {
    "class_token": lambda x: x[:, 0],
    "class_token_of_three_axes": lambda x: x[:, 0, :],
    "two_tokens": lambda x: (x[:, 0] + x[:, 1]) / 2,
    "mean": lambda x: x.mean(1),
    "mean_of_patches": lambda x: x[:, 2:].mean(dim=1),
    "class_token_and_mean": lambda x: x[:, 0] + x.mean(1),
}


def transformer(mixing, read, scaled: bool = False) -> Network:
    """Build the last block of a transformer over 9 patches with a class token and a register; the
    layer is `norm1`.
    """

    def forward(net, x):
        patches = net.patches(x).flatten(2).transpose(1, 2)
        x = torch.cat((net.leading.expand(patches.shape[0], -1, -1), patches), 1)
        attended = net.proj(mixing(net, net.norm1(x)))
        x = x + (attended * net.scale if scaled else attended)
        x = x + net.fc2(functional.gelu(net.fc1(net.norm2(x))))
        return net.head(read(x if scaled else net.norm(x)))

    torch.manual_seed(0)
    linear = {
        "qkv": 3 * WIDTH,
        "q": WIDTH,
        "k": WIDTH,
        "v": WIDTH,
        "narrow": WIDTH + 2 * HEADS * 2,
        "proj": WIDTH,
    }
    parts = {name: nn.Linear(WIDTH, width) for name, width in linear.items()}
    norms = {name: nn.LayerNorm(WIDTH) for name in ("norm1", "norm2", "norm")}
    parameters = {"leading": (1, 2, WIDTH), "bias": (HEADS, 11, 11), "scale": (WIDTH,)}
    random_parts = {name: nn.Parameter(torch.randn(size)) for name, size in parameters.items()}
    network = Network(
        forward,
        **parts,
        **norms,
        **random_parts,
        patches=nn.Conv2d(3, WIDTH, 1),
        fc1=nn.Linear(WIDTH, 12),
        fc2=nn.Linear(12, WIDTH),
        head=nn.Linear(WIDTH, 5),
    )
    return network.double().eval()


def trace_of(model: nn.Module) -> ab.Trace:
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(2, 3, 3, 3, generator=generator, dtype=torch.float64)
    return ab.cut(model, "norm1", reshape="tokens").trace(images, torch.tensor([0, 3]))


def row_sizes(trace: ab.Trace) -> set[tuple[int, ...]]:
    """Return the sizes of the values in the graph that the rows of the ablations follow."""
    head = head_graph(trace)
    values = head.few.copied_values(head.evaluate(trace.activations, trace.network.sides))
    return {tuple(value.shape) for value in values.values() if isinstance(value, Tensor)}


# Each way to mix tokens and each way to read them is scaled in half of its rows.
SCALED = []
for mixing_number, mixing_way in enumerate(MIXINGS):
    for read_number, read_way in enumerate(READS):
        is_scaled = (mixing_number + read_number) % 2 == 1
        SCALED.append((mixing_way, read_way, is_scaled))


@pytest.mark.parametrize(("mixing", "read", "scaled"), SCALED)
def test_drops_equal_brute_force(mixing, read, scaled):
    trace = trace_of(transformer(mixing, READS[read], scaled))
    assert head_graph(trace) is not None
    expected = brute_force(trace)
    assert expected.abs().max() > 1e-3
    # Brute force subtracts two scores near 1, so it rounds at about 1e-16.
    torch.testing.assert_close(trace.ablation_drops, expected, rtol=0, atol=1e-14)


def test_drops_of_causal_attention_equal_brute_force():
    trace = trace_of(transformer(causal, READS["mean"]))
    torch.testing.assert_close(trace.ablation_drops, brute_force(trace), rtol=0, atol=1e-14)


@pytest.mark.parametrize("mixing", MIXINGS)
@pytest.mark.parametrize("read", ["class_token", "two_tokens", "mean"])
def test_trace_is_that_of_the_whole_head_bit_for_bit(mixing, read):
    model = transformer(mixing, READS[read])
    trace = trace_of(model)
    maps = trace.activations.clone().requires_grad_()
    logits = trace.cut_model.trunk_and_head.parts.head(maps, trace.network.sides)
    (gradients,) = torch.autograd.grad(logits.gather(1, trace.targets[:, None]).sum(), maps)
    # Separate layers were read before: one token is then computed alone, in other kernels.
    is_read_before = mixing not in (fused, indexed, written_out)
    tolerance = 1e-14 if read == "class_token" and is_read_before else 0
    torch.testing.assert_close(trace.logits, logits.detach(), rtol=0, atol=tolerance)
    torch.testing.assert_close(trace.gradients, gradients, rtol=0, atol=tolerance)


@pytest.mark.parametrize(
    ("read", "tokens"), [("class_token", 1), ("class_token_of_three_axes", 1), ("two_tokens", 2)]
)
@pytest.mark.parametrize(
    "mixing", [fused, indexed, separate, written_out, split_by_widths, masked, by_sizes]
)
def test_rows_have_only_the_tokens_that_the_head_reads(mixing, read, tokens):
    sizes = row_sizes(trace_of(transformer(mixing, READS[read])))
    assert (2, tokens, 12) in sizes  # the MLP
    assert (2, HEADS, tokens, WIDTH // HEADS) in sizes  # the output of attention
    assert (2, 11, 12) not in sizes


@pytest.mark.parametrize("read", ["mean", "mean_of_patches", "class_token_and_mean"])
def test_other_heads_keep_all_tokens(read):
    assert head_graph(trace_of(transformer(fused, READS[read]))).few is None


@pytest.fixture
def dense_products(monkeypatch):
    """The rank-one products that were multiplied out, in a list."""
    products = []
    multiply_out = RankOne.dense

    def record(self):
        products.append(self)
        return multiply_out(self)

    monkeypatch.setattr(RankOne, "dense", record)
    return products


def test_no_row_has_queries_keys_and_values_of_all_tokens(dense_products):
    trace = trace_of(transformer(fused, READS["class_token"]))
    head = head_graph(trace)
    assert head.rows.widest <= head.widest
    assert trace.ablation_drops.shape == (2, WIDTH)
    assert dense_products == []


def test_views_are_the_same_when_images_come_first():
    model = transformer(fused, READS["mean"])
    module = fx.symbolic_trace(Network(fused, qkv=model.qkv))
    ordered = images_first(module)
    x = torch.randn(2, 11, WIDTH, dtype=torch.float64)
    assert torch.equal(ordered(x), module(x))
    values = HeadGraph(ordered, None, (), 0, 0).evaluate(x, ())
    assert all(value.shape[0] == 2 for value in values.values() if isinstance(value, Tensor))
    assert not any(node.target == "unbind" for node in ordered.graph.nodes)


def test_a_head_without_such_views_is_left_as_it_is():
    def forward(net, x):
        return net.fc(x).permute(0, 2, 1)

    module = fx.symbolic_trace(Network(forward, fc=nn.Linear(3, 4)))
    assert images_first(module) is module


FORMS = ["none", "dense", "left", "right"]


@pytest.mark.parametrize("first", FORMS)
@pytest.mark.parametrize("second", FORMS)
def test_product_difference_equals_two_products(first, second):
    generator = torch.Generator().manual_seed(0)

    def draw(*size: int) -> Tensor:
        return torch.randn(size, generator=generator, dtype=torch.float64)

    def difference(form: str, rows: int, columns: int) -> Tensor | RankOne | None:
        whole = (3, 2, rows, columns)
        if form == "none":
            return None
        if form == "dense":
            return draw(3, 2, rows, columns)
        column = draw(3, 1, rows, 1).expand(whole)
        row = draw(3, 2, 1, columns).expand(whole)
        return RankOne(column, row) if form == "left" else RankOne(row, column)

    def move(value: Tensor, change: Tensor | RankOne | None) -> Tensor:
        if change is None:
            return value
        return value + (change.dense() if isinstance(change, RankOne) else change)

    x = draw(1, 2, 4, 5)
    y = draw(1, 2, 5, 6)
    dx = difference(first, 4, 5)
    dy = difference(second, 5, 6)
    if dx is None and dy is None:
        return
    expected = move(x, dx) @ move(y, dy) - x @ y
    torch.testing.assert_close(product_difference(x, dx, y, dy), expected, rtol=0, atol=1e-13)


def pool_tokens(x: Tensor, size: int) -> Tensor:
    return functional.adaptive_avg_pool1d(x.transpose(1, 2), size).flatten(1)


# name: (the average of tokens (B, 9, WIDTH), its features)
AVERAGES = {
    "mean": (lambda x: x.mean(1), WIDTH),
    "mean_by_name": (lambda x: torch.mean(x, dim=-2, keepdim=True).flatten(1), WIDTH),
    "sum": (lambda x: x.sum(1), WIDTH),
    "pool": (lambda x: pool_tokens(x, 1), WIDTH),
    "pool_of_two": (lambda x: pool_tokens(x, 2), 2 * WIDTH),
    "class_token_and_mean": (lambda x: torch.cat((x[:, 0], x[:, 1:].mean(1)), 1), 2 * WIDTH),
    "mean_of_features": (lambda x: x.mean(2), 9),
}


@pytest.mark.parametrize("name", AVERAGES)
def test_averages_of_tokens_stay_products(name, dense_products):
    """The last norm of a mixer: no row holds all tokens with all features."""
    average, width = AVERAGES[name]

    def forward(net, x):
        x = net.norm1(net.patches(x).flatten(2).transpose(1, 2))
        return net.head(functional.gelu(net.fc1(average(x))))

    torch.manual_seed(0)
    patches = nn.Conv2d(3, WIDTH, 1)
    norm1 = nn.LayerNorm(WIDTH)
    fc1 = nn.Linear(width, 12)
    network = Network(forward, patches=patches, norm1=norm1, fc1=fc1, head=nn.Linear(12, 5))
    trace = trace_of(network.double().eval())
    expected = brute_force(trace)
    assert expected.abs().max() > 1e-3
    torch.testing.assert_close(trace.ablation_drops, expected, rtol=0, atol=1e-14)
    assert (9, WIDTH) not in [product.left.shape[1:] for product in dense_products]
