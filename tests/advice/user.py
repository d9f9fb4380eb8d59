"""A user who reads a refusal and does literally what it advises."""

from __future__ import annotations

import hashlib
import re
import shutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image
from safetensors.torch import save_file

from axiom_bench.errors import BenchError
from tests.advice import nets
from tests.advice.refusals import ROOT, Refusal, refusal_at

SHORT = (
    "method=[grad_cam]",
    "metric=[conservation_error]",
    "runtime.repeats=0",
    "report.figures.formats=[png]",
)
SCENES = ("model=scenes_vgg", "data.size=2", *SHORT)
RUN = "results/quick/first"  # the run folder of `first_run`
PLAIN = ("model.resize=[32,32]", "model.crop=null", "model.mean=[0,0,0]", "model.std=[1,1,1]")
NETS = Path(__file__).with_name("nets.py").read_text()

Follower = Callable[["User"], None]
SITUATIONS: dict[str, Follower] = {}
FOLLOWED: dict[str, str] = {}  # situation -> words of its refusal


def follows(words: str) -> Callable[[Follower], Follower]:
    """Register a situation that causes the refusal whose text contains `words`, and follows its
    advice.
    """

    def register(situation: Follower) -> Follower:
        name = f"{situation.__module__.rpartition('.')[2]}.{situation.__name__}"
        assert name not in SITUATIONS, name
        SITUATIONS[name] = situation
        FOLLOWED[name] = words
        return situation

    return register


def advice_in(message: str, pattern: str) -> str:
    """Return the part of a message that the group of `pattern` matches: the literal advice."""
    # a line of a command may end between two words
    match = re.search(pattern, message) or re.search(pattern, " ".join(message.split()))
    assert match, f"the message has no {pattern!r}: {message}"
    return match[1]


@dataclass
class User:
    """A user and the folder in which the user types commands."""

    folder: Path
    command: Callable[..., CompletedProcess[str]]
    patch: pytest.MonkeyPatch
    run_cache: Path  # run folders that several users share
    # The places of all errors that were created, and their texts.
    errors: list[tuple[Refusal | None, str]] = field(default_factory=list)
    messages: list[str] = field(default_factory=list)  # messages that the user read

    def __post_init__(self) -> None:
        """Record the place where each error is created."""
        make = BenchError.__init__

        def make_and_note(error: BenchError, *arguments: object) -> None:
            make(error, *arguments)
            caller = sys._getframe(1)
            path = Path(caller.f_code.co_filename).resolve()
            if path.is_relative_to(ROOT):
                place = refusal_at(str(path.relative_to(ROOT)), caller.f_lineno)
                self.errors.append((place, str(error)))

        self.patch.setattr(BenchError, "__init__", make_and_note)
        self.write("nets.py", NETS)

    def write(self, path: str, text: str | bytes) -> Path:
        file = self.folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(text if isinstance(text, bytes) else text.encode())
        return file

    def picture(self, path: str, side: int = 32, seed: int = 0) -> Path:
        file = self.folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(seed).integers(0, 255, (side, side, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(file)
        return file

    def array(self, path: str, values: Any) -> Path:
        file = self.folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        np.save(file, values)
        return file

    def save_weights(self, path: str, name: str) -> None:
        """Save the weights of a network of nets.py, or of torchvision, that is built without
        any.
        """
        builder = getattr(nets, name, None) or getattr(torchvision.models, name)
        file = self.write(path, b"")
        state = builder().state_dict()
        if file.suffix == ".safetensors":
            save_file(state, file)
        else:
            torch.save(state, file)

    def runs(self, name: str, settings: Sequence[str]) -> str:
        """Run the benchmark on scenes as results/quick/NAME, or copy the folder of another user's
        same run.
        """
        words = [f"run={name}", "model=scenes_vgg", "data.size=12", *SHORT, *settings]
        run_folder = f"results/quick/{name}"
        cached = self.run_cache / hashlib.sha256(" ".join(words).encode()).hexdigest()
        if not cached.exists():
            self.types(words)
            shutil.copytree(self.folder / run_folder, cached)
        else:
            shutil.copytree(cached, self.folder / run_folder)
        return run_folder

    def types(self, arguments: Sequence[str]) -> str:
        """Type a command that works, and return what it prints."""
        result = self.command(self.folder, *arguments)
        assert result.returncode == 0, (
            f"axiom-bench {' '.join(arguments)} ends with {_text(result)}"
        )
        return _text(result)

    def refusal(self, arguments: Sequence[str]) -> str:
        """Type a command that is refused, and return what it prints."""
        result = self.command(self.folder, *arguments)
        text = _text(result)
        assert result.returncode == 2, f"axiom-bench {' '.join(arguments)} isn't refused: {text}"
        self.messages.append(text)
        return text

    def error(self, call: Callable[..., object], *arguments: object) -> str:
        """Call what is refused in Python, and return the message."""
        with pytest.raises(BenchError) as error:
            call(*arguments)
        self.messages.append(str(error.value))
        return str(error.value)

    def has_caused(self, refusal: Refusal) -> bool:
        """Return True if the user has read this refusal's message."""
        messages = [" ".join(message.split()) for message in self.messages]
        texts = [" ".join(text.split()) for place, text in self.errors if place == refusal]
        return any(text in message for text in texts for message in messages)


def network(name: str, *settings: str) -> tuple[str, ...]:
    """Return the settings of a network of NETS, followed by `settings`."""
    return (
        "model=user",
        f"model.architecture=nets.py:{name}",
        "model.weights=as_built",
        *PLAIN,
        *settings,
    )


def first_run(user: User) -> None:
    """Run two methods. The run folder is RUN."""
    assert user.runs("first", ["method=[grad_cam,xgrad_cam]"]) == RUN


def _text(result: CompletedProcess[str]) -> str:
    return f"{result.stdout}\n{result.stderr}"
