"""What decides a job's values, as keys: model, input, precision, code, versions; method, metric, params."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from axiom_bench import kinds
from axiom_bench.columns import LAYER
from axiom_bench.cutting.output import LOGITS, TensorScores
from axiom_bench.cutting.tokens import Reshape
from axiom_bench.data.loading import batches, others
from axiom_bench.errors import BenchError
from axiom_bench.evaluation.plugins import Plugin, needs_of, required, value_names
from axiom_bench.evaluation.shard import shard_rows
from axiom_bench.evaluation.specs import MethodSpec
from axiom_bench.models.spec import OBJECT_OUTPUTS
from axiom_bench.models.weights import file_sha256, fit, state_sha256
from axiom_bench.records.record_files import key
from axiom_bench.records.sources import PACKAGE, Sources, label, version_of
from axiom_bench.run.job import Job, Shard


@dataclass(frozen=True, eq=False)
class Keys:
    """A job's keys, each computed once. command: which counts for users' own plug-ins, unless they say `reuse`."""

    job: Job
    command: str = ""

    @cached_property
    def common(self) -> str:
        """Key of all facts that the job's values share, apart from the images."""
        job, model, device = self.job, self.job.model, self.job.device
        # A network's layers as torch prints them, its tensors beside the weights, and the code of their classes.
        code = self.code({type(part).__module__ for part in model.module.modules()})
        network = [[repr(model.module), tensors_sha256(model.module), code], self._function(model.build)]
        if job.settings.model.get("output") in OBJECT_OUTPUTS:
            network.append(self._function(vars(model.module)["read"]))
        modules = [part.__module__ for part in (shard_rows, batches, fit)]
        return key(
            model=[model.name, model.layer, model.weights_sha256, *network],
            reshape=self._reshape,
            **({} if model.inputs is None else {"inputs": [*map(str, model.inputs.takes.keys)]}),
            output=[
                *(model.output.name, repr(model.output_module), tensors_sha256(model.output_module)),
                self.code([type(model.output_module).__module__]),
                self._function(model.output.function),
                *([] if model.output.returns == LOGITS.returns else [model.output.returns]),
            ],
            preprocessing=repr(model.preprocessing),
            target=[job.target, list(job.data.classes)],  # their order tells which output a label, box or mask means
            normalise=job.normalise,
            batch_rows=job.batch_rows,
            device=[device.device.type, device.precision, device.head_precision, device.deterministic],
            ablation_channels=device.ablation_channels,
            code=self.code([*modules, *(source.module for source in job.data.sources)]),
            experiment=[job.experiment, job.data.name],  # they stand in the rows
        )

    def with_plugins_of(self, job: Job) -> Keys:
        """The keys of the job with what is told of its plug-ins, whose code and common key are the same."""
        keys = Keys(job, self.command)
        vars(keys).update(common=self.common, _sources=self._sources)
        return keys

    @cached_property
    def values(self) -> dict[str, dict[str, str]]:
        """{method: {metric: key}} of all values that the job has."""
        of_layer, of_methods = dict[str, str](), dict[str, str]()
        for metric in self.job.metrics:
            (of_layer if metric.spec.of == "layer" else of_methods)[metric.name] = self.of_metric(metric)
        values = {LAYER: {name: key(method=None, metric=of_metric) for name, of_metric in of_layer.items()}}
        for method in self.job.methods:
            of_method = self._of_method(method)
            values[method.name] = {name: key(method=of_method, metric=each) for name, each in of_methods.items()}
        return {method: keys for method, keys in values.items() if keys}

    def shard(self, shard: Shard) -> str:
        """Key of a shard: the common facts and its images."""
        return key(job=self.common, contents=[self.job.contents[index] for index in shard])

    def step(self, name: str, *settings: object, methods: bool = True) -> str:
        """Key of what a step of the run makes of all images, such as run times or pictures."""
        of_methods = [self._of_method(method) for method in self.job.methods] if methods else []
        return key(step=name, settings=settings, job=self.common, contents=list(self.job.contents.values()),
                   methods=of_methods)  # fmt: skip

    def _of_method(self, method: Plugin) -> str:
        """Key of a method, and of the images and files that it reads beside the explained images."""
        of_method, beside = method_key(method, self._sources, self.command), self._of_files(method)
        if "other_images" in required([method]):
            beside["others"] = self._others
        return key(method=of_method, **beside) if beside else of_method

    def of_metric(self, metric: Plugin) -> str:
        """Return the key of a metric, with the files that it reads and the network that it asks."""
        of_metric = metric_key(metric, self._sources, self.command)
        beside: dict[str, object] = {**self._of_files(metric)}
        if "finetuned" in needs_of(metric) and self.job.model.finetuned is not None:
            beside["finetuned"] = state_sha256(self.job.model.finetuned.state_dict())
        return key(metric=of_metric, **beside) if beside else of_metric

    def _of_files(self, entry: Plugin) -> dict[str, list[str]]:
        """Names and SHA-256 of all files that a plug-in declares, a file or a folder each, where it declares any.
        Raises BenchError where there is none."""
        contents = []
        for setting, text in declared_files(entry):
            path = Path(text).expanduser()
            if not path.exists():
                raise BenchError(f"There is no file or folder {path}; set {setting}=PATH.")
            name = setting.rpartition(".")[2] if ".params." in setting else path.name
            for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
                if file.is_file():
                    digest = self.job.hashes.of([file], partial(file_sha256, file))
                    contents.append(f"{name} {file.relative_to(path).as_posix()} {digest}")
        return {"files": contents} if contents else {}

    @cached_property
    def _others(self) -> list[str]:
        """For each chosen image the id and content of the first image that may be its other one, of how many."""
        data, hashes = self.job.data, self.job.hashes
        first = [next(others(data, index), None) for index in self.job.indices]
        contents = ["" if place is None else f"{data.ids[place]} {data.fingerprint(place, hashes)}" for place in first]
        return [str(len(data)), *contents]

    @cached_property
    def _sources(self) -> Sources:
        return Sources()

    def code(self, modules: Iterable[str]) -> list[object]:
        """What modules run: the hash of the code, and versions of installed distributions."""
        code = self._sources.of(modules)
        return [code.sha256, code.versions]

    def _function(self, function: Callable[..., Any] | None) -> list[object]:
        """A function that built a network (two may print alike), or that makes scores of what one returns: its name,
        arguments and code; a module's tensors too."""
        if function is None:
            return []
        call, args, kwargs = unbound(function)
        owner = call if hasattr(call, "__qualname__") else type(call)
        module: str = owner.__module__
        facts: list[object] = [label(module), owner.__qualname__, list(args), kwargs, self.code([module])]
        if isinstance(call, nn.Module):
            facts += [repr(call), state_sha256(call.state_dict()), tensors_sha256(call)]
        if isinstance(call, TensorScores):
            facts += self._function(call.read)
        return facts

    def of_aggregate(self, metric: Plugin) -> list[str]:
        """What decides a metric's values of the whole data set beside its curves: the function, by this command where
        it is a user's own."""
        target = str(metric.spec.aggregate)
        return [target, *of_this_command(target, metric.spec.reuse, self._sources, self.command)]

    @property
    def _reshape(self) -> object:
        """What makes maps of a layer's output: its repr, or the class and code of a user's own object."""
        reshape = self.job.model.reshape
        if not isinstance(reshape, Reshape):
            return repr(reshape)
        return [type(reshape).__qualname__, self.code([type(reshape).__module__])]


def tensors_sha256(module: nn.Module | None) -> str:
    """SHA-256 over a module's buffers, those that aren't saved with its weights too, and its plain tensors."""
    parts = module.named_modules() if module is not None else ()
    entries = ((place, name, each) for place, part in parts for name, each in (part._buffers | vars(part)).items())
    return state_sha256({f"{place}.{name}": each for place, name, each in entries if isinstance(each, Tensor)})


def method_key(method: Plugin, sources: Sources, command: str = "", reuse: bool | None = None) -> str:
    """Key of a method: its call, the code that it runs, and what it wraps, which is reused where the wrapper is."""
    library, reuse = method.spec.library, method.spec.reuse or reuse
    return key(
        call=_call(method, sources, command, reuse),
        on_score_scale=method.spec.on_score_scale,
        library=version_of(library) if library else None,
        inner=method_key(method.inner, sources, command, reuse) if method.inner else None,
    )


def metric_key(metric: Plugin, sources: Sources, command: str = "") -> str:
    """Key of a metric: its call, the code that it runs, and what of its metadata decides values and their statuses.
    Titles, notes, units and tolerances have no part in it."""
    return key(
        call=_call(metric, sources, command, metric.spec.reuse),
        of=metric.spec.of,
        needs=needs_of(metric),
        undefined=metric.spec.undefined,
        names=[value_names(metric), metric.spec.curves],
    )


def _call(entry: Plugin, sources: Sources, command: str, reuse: bool | None) -> list[object]:
    code = sources.of([entry.target.rpartition(".")[0]])
    of_command = of_this_command(entry.target, reuse, sources, command)
    return [entry.target, dict(entry.params), code.sha256, code.versions, *of_command]


def of_this_command(target: str, reuse: bool | None, sources: Sources, command: str) -> list[str]:
    """The command, which counts for a function that is computed anew by each: of a user's own, unless it may be reused
    or comes from an installed distribution, whose version counts."""
    top = target.partition(".")[0]
    return [] if reuse or top == PACKAGE or sources.distributions(top) else [command]


def declared_files(entry: Plugin) -> list[tuple[str, str]]:
    """(setting, path) of the files that a plug-in declares: under `files`, and as a parameter annotated as a `File`."""
    kind = "method" if isinstance(entry.spec, MethodSpec) else "metric"
    annotated = [
        each.name for each in kinds.signature(unbound(entry.call)[0]).values() if each.annotation == kinds.File
    ]
    return [
        *((f"{kind}.{entry.name}.params.{name}", str(entry.params.get(name, ""))) for name in annotated),
        *((f"{kind}.{entry.name}.files", path) for path in entry.spec.files),
    ]


def unbound(call: Callable[..., Any]) -> tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]:
    """(function, arguments, keyword arguments) of a partial, or of a plain function."""
    return (call.func, call.args, dict(call.keywords)) if isinstance(call, partial) else (call, (), {})
