"""The keys of a job's values: hashes of everything that decides them.

The model, the input, the precision, the code and the versions of packages decide a value, and so do
the method, the metric and their parameters. A value that the run folder has under its key is cached
and isn't computed again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property, partial

from torch import Tensor, nn

from axiom_bench import kinds
from axiom_bench.columns import LAYER
from axiom_bench.cutting.output import LOGITS, TensorScores
from axiom_bench.cutting.tokens import Reshape
from axiom_bench.data.loading import batches, other_image_indices
from axiom_bench.errors import BenchError
from axiom_bench.evaluation.plugins import (
    AnyPlugin,
    Method,
    Metric,
    precondition_names,
    required,
    value_names,
)
from axiom_bench.evaluation.shard import shard_rows
from axiom_bench.evaluation.specs import MethodSpec
from axiom_bench.kinds import home_expanded
from axiom_bench.models.weights import file_sha256, load_into, state_sha256
from axiom_bench.records.record_files import key
from axiom_bench.records.sources import PACKAGE, Sources, label, version_of
from axiom_bench.run.job import Job, Shard


@dataclass(frozen=True, eq=False)
class Keys:
    """The keys of a job, each computed once."""

    job: Job
    """The job, on its images to explain."""
    command: str = ""
    """The id of the command. It is part of the keys of users' own plug-ins, except those that
    declare `reuse`."""

    @cached_property
    def common(self) -> str:
        """The key of all facts that the job's values share, except the images."""
        return self._key_at(self.job.model.layer, self._reshape)

    @cached_property
    def _common_of_layers(self) -> str:
        """The same for the network's scores, which are those of any layer at which it is cut.

        If trunk and head have their own precisions, the layer decides the scores.
        """
        device = self.job.device
        if device.precision != device.head_precision:
            return self.common
        return self._key_at(None, None)

    def _key_at(self, layer: str | None, reshape: object) -> str:
        """Return the key of all facts, except the images, for a network that is cut at a layer."""
        network = [self.job.model.name, layer, *self._network]
        return key(model=network, reshape=reshape, **self._facts)

    @cached_property
    def _network(self) -> list[object]:
        """The facts of the network itself."""
        model = self.job.model
        # The network's layers as torch prints them, its tensors that aren't weights, and the code
        # of its classes.
        network_code = self.code({type(part).__module__ for part in model.module.modules()})
        network: list[object] = [
            model.weights_sha256,
            [repr(model.module), tensors_sha256(model.module), network_code],
            self._function(model.build),
        ]
        if model.finds_objects:
            # a network of words has no function `read`
            network.append(self._function(getattr(model.module, "read", None)))
        return network

    @cached_property
    def _facts(self) -> dict[str, object]:
        """The facts that decide values in addition to the network, its layer and the images."""
        job = self.job
        model = job.model
        device = job.device
        output: list[object] = [
            model.output.name,
            repr(model.output_module),
            tensors_sha256(model.output_module),
            self.code([type(model.output_module).__module__]),
            self._function(model.output.function),
        ]
        if model.output.returns != LOGITS.returns:
            output.append(model.output.returns)
        modules = [function.__module__ for function in (shard_rows, batches, load_into)]
        modules.extend(source.module for source in job.data.sources)
        input_facts: dict[str, object] = {}
        if model.inputs is not None:
            input_facts["inputs"] = [str(input_key) for input_key in model.inputs.takes.keys]
        # the order of classes maps labels, boxes and masks to outputs
        target = [job.target, list(job.data.classes)]
        device_facts = [
            device.device.type,
            device.precision,
            device.head_precision,
            device.deterministic,
        ]
        return {
            "output": output,
            "preprocessing": repr(model.preprocessing),
            "target": target,
            "normalise": job.normalise,
            "batch_rows": job.batch_rows,
            "device": device_facts,
            "ablation_channels": device.ablation_channels,
            "code": self.code(modules),
            "experiment": [job.experiment, job.data.name],  # the rows of the records contain both
            **input_facts,
        }

    def with_proved_plugins(self, job: Job) -> Keys:
        """Return the keys of a copy of the job whose plug-ins are proved. The code and the common
        key are reused, since hashing them takes seconds.
        """
        keys = Keys(job, self.command)
        vars(keys).update(
            common=self.common, _common_of_layers=self._common_of_layers, _sources=self._sources
        )
        return keys

    @cached_property
    def values(self) -> dict[str, dict[str, str]]:
        """{method: {metric: key}} of all values that the job has. Metrics of the layer have the
        method `LAYER`.
        """
        layer_metrics: dict[str, str] = {}
        method_metrics: dict[str, str] = {}
        for metric in self.job.metrics:
            metrics = layer_metrics if metric.spec.of == "layer" else method_metrics
            metrics[metric.name] = self.for_metric(metric)
        values = {
            LAYER: {name: key(method=None, metric=hashed) for name, hashed in layer_metrics.items()}
        }
        for method in self.job.methods:
            hashed_method = self._for_method(method)
            values[method.name] = {
                name: key(method=hashed_method, metric=hashed)
                for name, hashed in method_metrics.items()
            }
        return {method: keys for method, keys in values.items() if keys}

    def shard(self, shard: Shard) -> str:
        """Return the key of a shard, which covers the common facts and the shard's images.

        The names of the shard's record files begin with it.
        """
        return key(job=self.common, contents=[self.job.contents[index] for index in shard])

    def scores(self, shard: Shard, metric: Metric) -> str:
        """Return the key of the network's scores for a metric's changed images of a shard. Jobs at
        other layers have the same key.
        """
        contents = [self.job.contents[index] for index in shard]
        return key(
            shard=key(job=self._common_of_layers, contents=contents),
            metric=self.for_metric(metric),
        )

    def step(self, name: str, *settings: object, methods: bool = True) -> str:
        """Return the key of the result that a step of the run computes from all images, such as run
        times or pictures.

        Args:
            name: The name of the step.
            settings: The settings that decide the step's result.
            methods: Whether the methods decide the result.
        """
        method_keys = [self._for_method(method) for method in self.job.methods] if methods else []
        return key(
            step=name,
            settings=settings,
            job=self.common,
            contents=list(self.job.contents.values()),
            methods=method_keys,
        )

    def _for_method(self, method: Method) -> str:
        """Return the key of a method, with the files and images that it reads in addition to the
        explained images.
        """
        plain_key = method_key(method, self._sources, self.command)
        further_inputs = self._declared_files(method)
        if "other_images" in required([method]):
            further_inputs["others"] = self._other_images
        return key(method=plain_key, **further_inputs) if further_inputs else plain_key

    def for_metric(self, metric: Metric) -> str:
        """Return the key of a metric, with the files that it reads and the finetuned network that
        it calls.
        """
        plain_key = metric_key(metric, self._sources, self.command)
        further_inputs: dict[str, object] = {**self._declared_files(metric)}
        if "finetuned" in precondition_names(metric) and self.job.model.finetuned is not None:
            further_inputs["finetuned"] = state_sha256(self.job.model.finetuned.state_dict())
        return key(metric=plain_key, **further_inputs) if further_inputs else plain_key

    def _declared_files(self, plugin: AnyPlugin) -> dict[str, list[str]]:
        """Return the names and SHA-256 of the files that a plug-in declares, or {} if it declares
        none.

        A declared path is a file, or a folder of which all files count. Raise BenchError if it
        doesn't exist.
        """
        contents = []
        for setting, text in declared_files(plugin):
            path = home_expanded(text)
            if not path.exists():
                raise BenchError(f"There is no file or folder {path}; set {setting}=PATH.")
            name = setting.rpartition(".")[2] if ".params." in setting else path.name
            for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
                if file.is_file():
                    digest = self.job.hashes.hash_of([file], partial(file_sha256, file))
                    contents.append(f"{name} {file.relative_to(path).as_posix()} {digest}")
        return {"files": contents} if contents else {}

    @cached_property
    def _other_images(self) -> list[str]:
        """The number of images in the data set, then the id and content of each explained image's
        other image.

        The other image is the first candidate of `others`. The text is empty if an image has no
        candidate.
        """
        data = self.job.data
        contents = [str(len(data))]
        for index in self.job.indices:
            other = next(other_image_indices(data, index), None)
            if other is None:
                contents.append("")
            else:
                contents.append(f"{data.ids[other]} {data.fingerprint(other, self.job.hashes)}")
        return contents

    @cached_property
    def _sources(self) -> Sources:
        """The code of modules, each read once."""
        return Sources()

    def code(self, modules: Iterable[str]) -> list[object]:
        """Return the hash of the code that these modules run, and the versions of the installed
        distributions in it.
        """
        code = self._sources.code_of(modules)
        return [code.sha256, code.versions]

    def _function(self, function: Callable[..., object] | None) -> list[object]:
        """Return the name, the arguments and the code of a function, and its tensors if it is a
        module.

        The function has built the network, since two networks may print alike, or computes scores
        from its output.
        """
        if function is None:
            return []
        call, args, kwargs = unbound(function)
        owner = call if hasattr(call, "__qualname__") else type(call)
        module: str = owner.__module__
        facts: list[object] = [
            label(module),
            owner.__qualname__,
            list(args),
            kwargs,
            self.code([module]),
        ]
        if isinstance(call, nn.Module):
            facts += [repr(call), state_sha256(call.state_dict()), tensors_sha256(call)]
        if isinstance(call, TensorScores):
            facts += self._function(call.read)
        return facts

    def for_aggregate(self, metric: Metric) -> list[str]:
        """Return what decides a metric's values of the whole data set in addition to its curves.

        This is the name of the function, and the command if the function is a user's own.
        """
        target = str(metric.spec.aggregate)
        return [target, *command_key(target, metric.spec.reuse, self._sources, self.command)]

    @property
    def _reshape(self) -> object:
        """The reshape that makes maps of the layer's output: its repr, or the class and code of a
        user's own object.
        """
        reshape = self.job.model.reshape
        if not isinstance(reshape, Reshape):
            return repr(reshape)
        return [type(reshape).__qualname__, self.code([type(reshape).__module__])]


def tensors_sha256(module: nn.Module | None) -> str:
    """Return the SHA-256 of a module's plain tensors and of all its buffers, also those not saved
    with its weights.
    """
    tensors = {}
    if module is not None:
        for path, part in module.named_modules():
            for name, value in (part._buffers | vars(part)).items():
                if isinstance(value, Tensor):
                    tensors[f"{path}.{name}"] = value
    return state_sha256(tensors)


def method_key(
    method: Method, sources: Sources, command: str = "", reuse: bool | None = None
) -> str:
    """Return the key of a method: its call, the code that it runs, and the method that it wraps.

    Args:
        method: The method.
        sources: The code of modules.
        command: The id of the command.
        reuse: True if a wrapper of this method may be reused: then so may this method.
    """
    library = method.spec.library
    reuse = method.spec.reuse or reuse
    inner_key = None
    if method.inner is not None:
        inner_key = method_key(method.inner, sources, command, reuse)
    return key(
        call=_call(method, sources, command, reuse),
        on_score_scale=method.spec.on_score_scale,
        library=version_of(library) if library else None,
        inner=inner_key,
    )


def metric_key(metric: Metric, sources: Sources, command: str = "") -> str:
    """Return the key of a metric: its call, the code that it runs, and the metadata that decides
    values and statuses.

    Titles, notes, units and tolerances aren't part of the key.
    """
    return key(
        call=_call(metric, sources, command, metric.spec.reuse),
        of=metric.spec.of,
        needs=precondition_names(metric),
        undefined=metric.spec.undefined,
        names=[value_names(metric), metric.spec.curves],
    )


def _call(plugin: AnyPlugin, sources: Sources, command: str, reuse: bool | None) -> list[object]:
    """Return a plug-in's function, its parameters and its code, and the command if the plug-in
    isn't reused.

    The code that calls a user's CAM counts, too. It is that of the call's class.
    """
    code = sources.code_of([plugin.target.rpartition(".")[0], type(plugin.call).__module__])
    command_ids = command_key(plugin.target, reuse, sources, command)
    return [plugin.target, dict(plugin.params), code.sha256, code.versions, *command_ids]


def command_key(target: str, reuse: bool | None, sources: Sources, command: str) -> list[str]:
    """Return [command] for a function that every command computes again, and [] for any other
    function.

    Every command computes a user's own function again, because that function may run code that no
    key covers. If the function may be reused, or comes from an installed distribution, whose
    version is part of the key, it isn't.
    """
    package = target.partition(".")[0]
    if reuse or package == PACKAGE or sources.distributions(package):
        return []
    return [command]


def declared_files(entry: AnyPlugin) -> list[tuple[str, str]]:
    """Return (setting, path) of each file that a plug-in declares.

    It declares files under `files`, and as parameters that are annotated as `File`.
    """
    kind = "method" if isinstance(entry.spec, MethodSpec) else "metric"
    function, _, _ = unbound(entry.call)
    declared = []
    for parameter in kinds.signature(function).values():
        if parameter.annotation == kinds.File:
            path = str(entry.params.get(parameter.name, ""))
            declared.append((f"{kind}.{entry.name}.params.{parameter.name}", path))
    declared.extend((f"{kind}.{entry.name}.files", path) for path in entry.spec.files)
    return declared


def unbound(
    call: Callable[..., object],
) -> tuple[Callable[..., object], tuple[object, ...], dict[str, object]]:
    """Return (function, arguments, keyword arguments) of a partial, or of a plain function, which
    has no arguments.
    """
    if isinstance(call, partial):
        return call.func, call.args, dict(call.keywords)
    return call, (), {}
