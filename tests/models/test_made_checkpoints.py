"""Checkpoints composed as people save them.

The network has exactly the tensors that the checkpoint holds, or there is one sentence, which works
when followed literally.
"""

import re
from argparse import Namespace
from collections import OrderedDict, defaultdict
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import strategies as st
from torch import Tensor, nn

from axiom_bench.models import weights
from tests.made import lengths, run, value_or_sentence

State = dict[str, Tensor]


def without_variance(state: State) -> State:
    return {name: tensor for name, tensor in state.items() if name != "norm.running_var"}


def with_other_classes(state: State) -> State:
    return {**state, "fc.weight": torch.zeros(5, 2), "fc.bias": torch.zeros(5)}


def with_another_layer(state: State) -> State:
    return {**state, "head.weight": torch.zeros(2)}


def with_nan(state: State) -> State:
    return {**state, "conv.bias": torch.full((2,), torch.nan)}


def with_whole_numbers(state: State) -> State:
    return {**state, "fc.bias": torch.zeros(3, dtype=torch.int8)}


FAULTS: dict[str, Callable[[State], State]] = {  # of one copy of the network
    "lacks a tensor": without_variance,
    "other classes": with_other_classes,
    "another layer": with_another_layer,
    "NaN": with_nan,
    "whole numbers": with_whole_numbers,
}
# A copy with one of these faults is no copy of this network.
UNFIT = ("lacks a tensor", "other classes", "another layer")


def in_half_precision(state: State) -> State:
    return {
        name: tensor.half() if tensor.is_floating_point() else tensor
        for name, tensor in state.items()
    }


def with_a_wrapped_part(state: State) -> State:
    return {name.replace("fc.", "fc.module."): tensor for name, tensor in state.items()}


def with_names_in_one_word(state: State) -> State:
    return {name.replace(".", "_"): tensor for name, tensor in state.items()}


def without_counts(state: State) -> State:
    return {name: tensor for name, tensor in state.items() if "tracked" not in name}


def with_a_loss(state: State) -> State:
    return {**state, "criterion.weight": torch.ones(2), "n_averaged": torch.tensor(1)}


FORMS: dict[str, Callable[[State], State]] = {  # they change no value
    "plain": lambda state: state,
    "half": in_half_precision,
    "a part wrapped": with_a_wrapped_part,
    "in one word": with_names_in_one_word,
    "without counts": without_counts,
    "with a loss's weights": with_a_loss,
}


def counters(_: State) -> dict[Any, object]:
    return {"epoch": 3, "step": torch.tensor(9), "best": np.float64(0.5), "ema_rate": 0.9}


def optimizer(state: State) -> dict[Any, object]:
    averages = {0: {"exp_avg": state["fc.weight"] * 2}}
    return {"optimizer": {"state": averages, "groups": [0, 1]}}


def optimizer_by_names(state: State) -> dict[Any, object]:
    averages = {
        name: {"exp_avg": tensor, "step": torch.tensor(1.0)} for name, tensor in state.items()
    }
    return {"optim": averages}


def gradients(state: State) -> dict[Any, object]:
    return {
        "grads": {name: tensor for name, tensor in state.items() if not name.startswith("norm.r")}
    }


def settings(_: State) -> dict[Any, object]:
    history = defaultdict(list, loss=[0.1])
    return {"args": Namespace(lr=0.1), "history": history, 7: None}


# Other content of the same file.
BESIDE: dict[str, Callable[[State], dict[Any, object]]] = {
    "counters": counters,
    "an optimizer": optimizer,
    "an optimizer by names": optimizer_by_names,
    "gradients": gradients,
    "settings": settings,
}
# A place in the file and a function that puts the content there.
AROUND: dict[str, Callable[[object], object]] = {
    "": lambda content: content,
    "runs.1": lambda content: {"runs": [3, content]},
    "0": lambda content: (content, "x"),
}
KEY = st.sampled_from(("model", "state_dict", "ema", "net"))
KEYS = st.lists(KEY, max_size=2, unique=True).map(tuple)
PREFIXES = st.sampled_from(
    ("", "", "module.", "_orig_mod.", "core.", "core.core.", "body.module.", "teacher.", "ema_")
)
COPY = st.fixed_dictionaries(
    {
        "seed": st.sampled_from((0, 0, 1)),
        "fault": st.sampled_from((None, None, None, *FAULTS)),
        "form": st.sampled_from(sorted(FORMS)),
    }
)
KINDS = {
    "copies": st.dictionaries(st.tuples(KEYS, PREFIXES), COPY, min_size=1, max_size=3),
    "beside": st.sets(st.sampled_from(sorted(BESIDE))),
    "around": st.sampled_from(sorted(AROUND)),
    "nested": st.booleans(),
}


def network() -> nn.Module:
    parts = OrderedDict(
        conv=nn.Conv2d(3, 2, 1),
        norm=nn.BatchNorm2d(2),
        fc=nn.Linear(2, 3),
    )
    return nn.Sequential(parts)


def copy_of(seed: int, fault: str | None, form: str) -> State:
    generator = torch.Generator().manual_seed(seed)
    state = {}
    for name, tensor in network().state_dict().items():
        if tensor.is_floating_point():
            tensor = torch.rand(tensor.shape, generator=generator)
        state[name] = tensor
    if fault:
        state = FAULTS[fault](state)
    return FORMS[form](state)


def content_of(copies: dict[Any, dict[str, Any]], beside: set[str]) -> dict[Any, Any]:
    content: dict[Any, Any] = {}
    for name in sorted(beside):
        content |= BESIDE[name](copy_of(2, None, "plain"))
    for (keys, prefix), kind in copies.items():
        inner = content
        for key in keys:
            inner = inner.setdefault(key, {})
        inner.update({prefix + name: tensor for name, tensor in copy_of(**kind).items()})
    return content


def loaded(file: weights.Weights, nested: bool, key: str | None = None) -> State | str:
    module = network()
    target = nn.Sequential(module) if nested else module
    fit = value_or_sentence(lambda: weights.load_into(target, file, "mine", key))
    return fit if isinstance(fit, str) else module.state_dict()


def check(
    path: Any,
    copies: dict[Any, dict[str, Any]],
    beside: set[str],
    around: str,
    nested: bool,
) -> None:
    torch.save(AROUND[around](content_of(copies, beside)), path)
    file = weights.read_weights(path)
    fitting = {}
    for (keys, prefix), kind in copies.items():
        if kind["fault"] not in UNFIT:
            parts = (around, *keys, prefix.rstrip("."))
            place = ".".join(filter(None, parts)) or "top"
            fitting[place] = (kind["seed"], kind["fault"], kind["form"])

    result = loaded(file, nested)
    if not fitting:
        assert "don't fit mine" in str(result)
        return
    chosen = next(iter(fitting.values()))
    values = {(seed, fault, form == "half") for seed, fault, form in fitting.values()}
    if len(values) > 1:
        # Copies of different values: the sentence asks for a key, and this key works.
        (key,) = re.findall(r"choose one by model\.weights_key=(.+)\.$", str(result))
        plain = {weights.unwrapped_name(place): kind for place, kind in fitting.items()}
        result = loaded(file, nested, key)
        chosen = fitting.get(key) or plain[key]

    seed, fault, form = chosen
    assert isinstance(result, str) == (fault is not None), result
    if fault:
        return
    expected = copy_of(seed, None, "half" if form == "half" else "plain")
    for name, tensor in expected.items():
        assert torch.equal(result[name], tensor.to(result[name].dtype)), name


@pytest.mark.slow
@lengths(75, times=16)
def test_the_tensors_that_were_put_in_or_one_sentence(tmp_path, examples):
    run(lambda kind: check(tmp_path / "mine.pth", **kind), KINDS, examples)
