"""Users' own methods of a suite, or of values that are verified, in a process of their own, one a job. It has network
and methods, and neither names of images, annotations, metrics nor a network's own truth.

Here such a method is a proxy: it sends what a method may know of a trace, the other process traces by itself, and sends
weights or a map. That process is forked from a server that was started anew and has imported libraries alone, so that
nothing of this one is in its memory. To read its answers runs no code.
"""

from __future__ import annotations

import io
import multiprocessing
import os
import pickle
import signal
import sys
import warnings
import weakref
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from multiprocessing.connection import Connection
from random import Random
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from axiom_bench import kinds
from axiom_bench.cutting import trace as tracing
from axiom_bench.cutting.numerics import generators
from axiom_bench.cutting.split_model import SplitModel
from axiom_bench.cutting.trace import Trace, trace_of
from axiom_bench.data.registry import OF_ARRAYS
from axiom_bench.errors import BenchError, NoMap
from axiom_bench.evaluation.method_costs import measure_runtime
from axiom_bench.evaluation.plugins import Plugin, imported, required
from axiom_bench.evaluation.purity import Interference
from axiom_bench.evaluation.specs import MethodSpec, method_spec
from axiom_bench.explanation.explanation import Map, Method
from axiom_bench.models.load import load_model
from axiom_bench.models.weights import state_sha256
from axiom_bench.run.composing.settings import Device, add_current_folder
from axiom_bench.run.job import chosen, cut_of
from axiom_bench.run.keys import declared_files

TRUTH = ("true_contributions", "channel_values", "reading")  # what a planted network tells of itself
ERRORS = {"Interference": Interference, "NoMap": NoMap, "BenchError": BenchError}


def chosen_methods(config: Mapping[str, Any], workers: int = 1) -> tuple[Plugin, ...]:
    """The configured methods, users' own isolated. workers: processes, of which each call takes one at random. Raises
    BenchError as `chosen` does."""
    methods = config["method"]
    foreign = {name: each for name, each in methods.items() if isinstance(each, Mapping) and _is_foreign(each)}
    if not foreign:
        return chosen("method", config)
    ours = {name: each for name, each in methods.items() if name not in foreign}
    found = {method.name: method for method in (chosen("method", {"method": ours}) if ours else ())}
    of_arrays = config["data"]["kind"] in OF_ARRAYS
    of_worker = {"model": config["model"], "of_arrays": of_arrays, "device": config["device"], "method": foreign}
    started = [Worker(of_worker) for _ in range(workers)]
    for name, entry in foreign.items():
        about = {key: each for key, each in entry.items() if key not in ("_target_", "params")}
        described = started[0].ask({"describe": name})
        found[name] = _plugin(described, started, method_spec(f"method.{name}", about))
    return tuple(found[name] for name in methods)


def _is_foreign(entry: Mapping[str, Any]) -> bool:
    """As `Plugin.is_foreign`, of what isn't imported here: other code, or a wrapper of a method of other code."""
    target, params = str(entry.get("_target_")), entry.get("params") or {}
    if not target.startswith("axiom_bench."):
        return True
    entries = kinds.signature(imported("method", target, target)).values()
    wrapped = [each.name for each in entries if each.annotation == Method]
    return any("." in str(params.get(name)) for name in wrapped)


class Isolated(Plugin[MethodSpec]):
    """A method whose calls another process answers, which has put a note on its errors."""

    call: Proxy

    @contextmanager
    def noting_errors(self) -> Iterator[None]:
        """Adds nothing."""
        yield


def _described(plugin: Plugin) -> dict[str, Any]:
    """What is asked of a method before it is called."""
    inner = _described(plugin.inner) if plugin.inner else None
    about: dict[str, Any] = {"name": plugin.name, "target": plugin.target, "params": dict(plugin.params)}
    about |= {"inner": inner, "dimensions": list(plugin.spec.dimensions)}
    files = [path for _, path in declared_files(plugin)]
    return {**about, "requires": sorted(required([plugin])), "description": plugin.description, "files": files}


def _plugin(about: Mapping[str, Any], workers: Sequence[Worker], spec: MethodSpec | None = None) -> Isolated:
    inner = _plugin(about["inner"], workers) if about["inner"] else None
    spec = spec or MethodSpec(requires=tuple(about["requires"]))
    spec = replace(spec, files=tuple(about["files"]), dimensions=tuple(about["dimensions"]))
    return Isolated(about["name"], about["target"], Proxy(about, workers), spec, about["params"], inner)


class Proxy:
    """Calls a method of other processes, whose docstring it has."""

    def __init__(self, about: Mapping[str, Any], workers: Sequence[Worker]) -> None:
        self.name, self.requires, self.workers, self.random = about["name"], about["requires"], workers, Random()
        self.__doc__ = about["description"]

    def __call__(self, trace: Trace) -> Any:
        """Weights or a Map. Raises what the method raises, with its place."""
        about = self.ask(trace)
        for name, count in about["passes"].items():
            setattr(trace.passes, name, getattr(trace.passes, name) + count)
        answer, missing = about["answer"]
        if not isinstance(answer, Tensor):
            kind = about["returned"]  # what a method can't return is told by its type
            return None if kind == "NoneType" else type(kind, (), {"__module__": "builtins"})()
        answer = answer.to(trace.images.device)
        return Map(answer, missing) if about["returned"] == "Map" else answer

    def ask(self, trace: Trace, repeats: int = 0) -> dict[str, Any]:
        """What `Served.answer` returns. repeats: of run times."""
        network, model = trace.network, trace.cut_model
        request = {
            "method": self.name, "images": trace.images.cpu(), "targets": trace.targets.cpu(), "repeats": repeats,
            "others": [each.cpu() for each in trace.other_inputs],
            "num_padding": trace.num_padding, "scales": (network.output_scale, network.input_scale),
            "extras": {name: getattr(trace, name) for name in self.requires},
            "state": model.once("sha256 of the state", lambda: state_sha256(model.model.state_dict())),
        }  # fmt: skip
        return self.random.choice(self.workers).ask(request, trace)


class Worker:
    """The process of a job's own methods; it ends with this object. config: of model, device and these methods."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        has_server = "forkserver" in multiprocessing.get_all_start_methods()  # Windows has none
        context = multiprocessing.get_context("forkserver") if has_server else multiprocessing.get_context("spawn")
        if has_server:
            context.set_forkserver_preload([__name__, "axiom_bench.data.torchvision_import"])
        self.connection, there = context.Pipe()
        arguments = there, config, os.getcwd(), torch.get_num_threads()
        self.process = context.Process(target=_serve, args=arguments, daemon=True)
        main = sys.modules["__main__"]
        sys.modules["__main__"] = ModuleType("__main__")  # else it imports a script anew, which may ask for this
        try:
            self.process.start()
        finally:
            sys.modules["__main__"] = main
        there.close()
        self.known = set[str]()  # networks' weights that it has
        weakref.finalize(self, _end, self.process, self.connection)

    def ask(self, request: Mapping[str, Any], trace: Trace | None = None) -> dict[str, Any]:
        """The answer to a request about a trace. Raises the other process's error, and RuntimeError where it ended."""
        weights = {}
        if trace is not None and request["state"] not in self.known:
            weights = {name: each.cpu() for name, each in trace.cut_model.model.state_dict().items()}
        try:
            self.connection.send_bytes(pickle.dumps({**request, "weights": weights}))
            while "draws" in (about := _received(self.connection)):
                seeds = [each.initial_seed() for each in trace.generators(about["draws"])] if trace else []
                self.connection.send_bytes(pickle.dumps(seeds))
        except (EOFError, ConnectionError) as error:
            self.process.join()
            ended = RuntimeError(f"its process ended, with exit code {self.process.exitcode}")
            ended.add_note(f"raised by {request.get('method') or request['describe']!r}")
            raise ended from error
        if "error" in about:
            name, text, notes = about["error"]  # by its name: its class may be the method's own
            raised = ERRORS.get(name, type(name, (RuntimeError,), {}))(text)
            for note in notes:
                raised.add_note(note)
            raise raised
        self.known.add(request.get("state", ""))
        return about


def _end(process: Any, connection: Connection) -> None:
    connection.close()
    process.kill()
    process.join()


def _received(connection: Connection) -> dict[str, Any]:
    """Plain data and tensors: anything else is refused."""
    content: dict[str, Any] = torch.load(io.BytesIO(connection.recv_bytes()), weights_only=True)
    return content


def _send(connection: Connection, content: Mapping[str, Any]) -> None:
    buffer = io.BytesIO()
    torch.save(content, buffer)
    connection.send_bytes(buffer.getvalue())


def _serve(connection: Connection, config: Mapping[str, Any], folder: str, threads: int) -> None:
    """In the other process: answers until the job's process closes the connection, or ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the command alone answers Ctrl-C
    os.chdir(folder)
    add_current_folder()
    torch.set_num_threads(threads)
    served = Served(config, connection)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the command's own are told there
        while True:
            try:
                request = pickle.loads(connection.recv_bytes())
            except EOFError:
                return
            try:
                about = served.answer(request)
            except (Exception, SystemExit) as error:  # noqa: BLE001 - a user's code may raise anything
                names = [each.__name__ for each in type(error).__mro__]
                name = next((name for name in names if name in ERRORS), names[0])
                about = {"error": (name, str(error), getattr(error, "__notes__", []))}
            _send(connection, about)


class Served:
    """The methods of a job, and its network in the states that were sent."""

    def __init__(self, config: Mapping[str, Any], connection: Connection) -> None:
        self.config, self.connection = config, connection
        self.methods: dict[str, Plugin] = {}
        self.states: dict[str, SplitModel] = {}
        tracing.generators = self.draws

    def answer(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """A method's description, run times, or weights or map of a trace."""
        self.methods = self.methods or {method.name: method for method in chosen("method", self.config)}
        if "describe" in request:
            return _described(self.methods[request["describe"]])
        method, trace = self.methods[request["method"]], self.trace(request)
        if request["repeats"]:
            table = measure_runtime(trace, [method], request["repeats"])
            return {"rows": table.astype(object).to_dict("records")}
        before = asdict(trace.passes)
        answer = method(trace)
        parts = (answer.raw, answer.missing) if isinstance(answer, Map) else (answer, None)
        sent = [each.detach().cpu().clone() if isinstance(each, Tensor) else None for each in parts]
        passes = {name: count - before[name] for name, count in asdict(trace.passes).items()}
        return {"returned": type(answer).__name__, "answer": sent, "passes": passes}

    def trace(self, request: Mapping[str, Any]) -> Trace:
        """As the job's process has it; nothing in it tells who asks."""
        name = request["state"]
        if name not in self.states:
            self.states[name] = self.cut(request["weights"], *request["images"].shape[1:])
        trace = trace_of(
            self.states[name],
            request["images"],
            request["targets"],
            **request["extras"],
            others=tuple(request["others"]),
        )
        marks = torch.full_like(trace.images, torch.nan)  # of first images, which aren't here: see `draws`
        marks.flatten(1)[:, 0] = torch.arange(len(marks))
        trace = replace(trace, num_padding=request["num_padding"], first_images=marks)
        return trace if request["scales"] == (1, 1) else trace.scaled(*request["scales"])

    def cut(self, weights: Mapping[str, Tensor], *shape: int) -> SplitModel:
        """The network with these weights, for samples of this shape, cut at the job's layer, without what tells its
        truth. Raises BenchError for another network's."""
        device = Device.of(self.config["device"])
        device.prepare()
        are_arrays = self.config["of_arrays"] or len(shape) != 3
        model = load_model(self.config["model"], shape if are_arrays else None)
        for owner in type(model.module).__mro__:
            for name in {*TRUTH} & {*vars(owner)} if TRUTH[0] in vars(owner) else ():
                delattr(owner, name)
        try:
            model.module.load_state_dict(weights)
        except RuntimeError as error:
            raise BenchError("The method is asked about another network than the job's.") from error
        return cut_of(model, device)

    def draws(self, images: Tensor, seed: int | str) -> list[torch.Generator]:
        """`numerics.generators`; of a trace's first images as the job's process says."""
        if not images.flatten(1)[:, 1:].isnan().all():
            return generators(images, seed)
        _send(self.connection, {"draws": str(seed)})
        seeds = pickle.loads(self.connection.recv_bytes())
        return [torch.Generator().manual_seed(seeds[int(row)]) for row in images.flatten(1)[:, 0]]
