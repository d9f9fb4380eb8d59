"""Checkpoints composed as people save them: the network has exactly the tensors that were put in,
or there is one sentence, which works when followed literally.
"""

import re
from argparse import Namespace
from collections import OrderedDict, defaultdict
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from hypothesis import strategies as st
from torch import Tensor, nn

from axiom_bench.models import weights
from tests.made import lengths, run, value_or_sentence

State = dict[str, Tensor]
FAULTS: dict[str, Callable[[State], State]] = {  # of one copy of the network
    "lacks a tensor": lambda state: {
        name: tensor for name, tensor in state.items() if name != "norm.running_var"
    },
    "other classes": lambda state: {
        **state,
        "fc.weight": torch.zeros(5, 2),
        "fc.bias": torch.zeros(5),
    },
    "another layer": lambda state: {**state, "head.weight": torch.zeros(2)},
    "NaN": lambda state: {**state, "conv.bias": torch.full((2,), torch.nan)},
    "whole numbers": lambda state: {**state, "fc.bias": torch.zeros(3, dtype=torch.int8)},
}
UNFIT = ("lacks a tensor", "other classes", "another layer")  # no copy of this network
FORMS: dict[str, Callable[[State], State]] = {  # of no other values
    "plain": lambda state: state,
    "half": lambda state: {
        name: t.half() if t.is_floating_point() else t for name, t in state.items()
    },
    "a part wrapped": lambda state: {
        name.replace("fc.", "fc.module."): tensor for name, tensor in state.items()
    },
    "in one word": lambda state: {name.replace(".", "_"): tensor for name, tensor in state.items()},
    "without counts": lambda state: {
        name: tensor for name, tensor in state.items() if "tracked" not in name
    },
    "with a loss's weights": lambda state: {
        **state,
        "criterion.weight": torch.ones(2),
        "n_averaged": torch.tensor(1),
    },
}
BESIDE: dict[str, Callable[[State], dict[Any, object]]] = {  # in the same file
    "counters": lambda state: {
        "epoch": 3,
        "step": torch.tensor(9),
        "best": np.float64(0.5),
        "ema_rate": 0.9,
    },
    "an optimizer": lambda state: {
        "optimizer": {"state": {0: {"exp_avg": state["fc.weight"] * 2}}, "groups": [0, 1]}
    },
    "an optimizer by names": lambda state: {
        "optim": {
            name: {"exp_avg": tensor, "step": torch.tensor(1.0)} for name, tensor in state.items()
        }
    },
    "gradients": lambda state: {
        "grads": {name: t for name, t in state.items() if not name.startswith("norm.r")}
    },
    "settings": lambda state: {
        "args": Namespace(lr=0.1),
        "history": defaultdict(list, loss=[0.1]),
        7: None,
    },
}
AROUND: dict[str, Callable[[object], object]] = {
    "": lambda content: content, "runs.1": lambda content: {"runs": [3, content]}, "0": lambda content: (content, "x"),
}  # fmt: skip
KEYS = st.lists(
    st.sampled_from(("model", "state_dict", "ema", "net")), max_size=2, unique=True
).map(tuple)
PREFIXES = st.sampled_from(
    ("", "", "module.", "_orig_mod.", "core.", "core.core.", "body.module.", "teacher.", "ema_")
)
COPY = st.fixed_dictionaries({
    "seed": st.sampled_from((0, 0, 1)), "fault": st.sampled_from((None, None, None, *FAULTS)),
    "form": st.sampled_from(sorted(FORMS)),
})  # fmt: skip
KINDS = {
    "copies": st.dictionaries(st.tuples(KEYS, PREFIXES), COPY, min_size=1, max_size=3),
    "beside": st.sets(st.sampled_from(sorted(BESIDE))), "around": st.sampled_from(sorted(AROUND)),
    "nested": st.booleans(),
}  # fmt: skip


def network() -> nn.Module:
    return nn.Sequential(
        OrderedDict(conv=nn.Conv2d(3, 2, 1), norm=nn.BatchNorm2d(2), fc=nn.Linear(2, 3))
    )


def copy_of(seed: int, fault: str | None, form: str) -> State:
    generator = torch.Generator().manual_seed(seed)
    state = {
        name: torch.rand(tensor.shape, generator=generator)
        if tensor.is_floating_point()
        else tensor
        for name, tensor in network().state_dict().items()
    }
    return FORMS[form](FAULTS[fault](state) if fault else state)


def content_of(copies: dict[Any, dict[str, Any]], beside: set[str]) -> dict[Any, Any]:
    content: dict[Any, Any] = {}
    for each in sorted(beside):
        content |= BESIDE[each](copy_of(2, None, "plain"))
    for (keys, prefix), kind in copies.items():
        inner = content
        for key in keys:
            inner = inner.setdefault(key, {})
        inner.update({prefix + name: tensor for name, tensor in copy_of(**kind).items()})
    return content


def loaded(file: weights.Weights, nested: bool, key: str | None = None) -> State | str:
    module = network()
    fit = value_or_sentence(
        lambda: weights.fit(nn.Sequential(module) if nested else module, file, "mine", key)
    )
    return fit if isinstance(fit, str) else module.state_dict()


def check(
    path: Any, copies: dict[Any, dict[str, Any]], beside: set[str], around: str, nested: bool
) -> None:
    torch.save(AROUND[around](content_of(copies, beside)), path)
    file = weights.read(path)
    fitting = {
        ".".join(filter(None, (around, *keys, prefix.rstrip(".")))) or "top": (
            kind["seed"],
            kind["fault"],
            kind["form"],
        )
        for (keys, prefix), kind in copies.items()
        if kind["fault"] not in UNFIT
    }
    result, chosen = loaded(file, nested), next(iter(fitting.values()), None)
    if chosen is None:
        assert "don't fit mine" in str(result)
        return
    if len({(*of_copy[:2], of_copy[2] == "half") for of_copy in fitting.values()}) > 1:
        (key,) = re.findall(r"choose one by model\.weights_key=(.+)\.$", str(result))
        plain = {weights.unwrapped_name(name): of_copy for name, of_copy in fitting.items()}
        result, chosen = loaded(file, nested, key), fitting.get(key) or plain[key]
    seed, fault, form = chosen
    assert isinstance(result, str) == (fault is not None), result
    for name, tensor in (
        {} if fault else copy_of(seed, None, "half" if form == "half" else "plain").items()
    ):
        assert torch.equal(result[name], tensor.to(result[name].dtype)), name


@lengths(150)
def test_the_tensors_that_were_put_in_or_one_sentence(tmp_path, examples):
    run(lambda kind: check(tmp_path / "mine.pth", **kind), KINDS, examples)
