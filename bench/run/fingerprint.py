"""The name of a record file: a hash of everything that can change a value in it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from functools import cache
from importlib.metadata import PackageNotFoundError, version

from torch import nn

from axiom_bench.cutting.tokens import AnyReshape, Reshape
from axiom_bench.evaluation.plugins import Plugin
from axiom_bench.records import sources
from axiom_bench.run.job import Job
from axiom_bench.run.shards import Shard

LIBRARIES = ("torch", "torchvision", "Pillow", "numpy")


def of_job(job: Job) -> str:
    """What the values of all methods of a job depend on, but for the images and the methods themselves."""
    model, device = job.model, job.device
    return _sha256(
        model=[model.name, model.layer, model.weights_sha256, network(model.module)],
        reshape=reshape(model.reshape),
        output=[model.output.name, repr(model.output_module)],
        preprocessing=repr(model.preprocessing),
        target=[job.target, list(job.data.classes)],  # their order says which output a label, box or mask is about
        normalise=job.normalise,
        batch_size=job.batch_size,
        computed=[device.device.type, device.precision, device.head_precision, device.deterministic],
        versions=versions(),
        engine=sources.engine(),
        experiment=[job.experiment, job.data.name],  # they stand in the rows
    )


def of_file(job: str, contents: Iterable[str], method: Plugin | None, metrics: Iterable[Plugin]) -> str:
    """A shard x a method. job: `of_job`; contents: ids, hashes, labels of its images; method None: the layer's own."""
    return _sha256(
        job=job,
        contents=list(contents),
        method=plugin(method) if method else None,
        metrics=[plugin(metric) for metric in metrics],
    )


def file_name(job: Job, common: str, shard: Shard, method: Plugin | None) -> str:
    """The file that holds a shard x a method, relative to the run folder. common: `of_job(job)`."""
    of_layer = method is None
    metrics = [metric for metric in job.metrics if (metric.spec.of == "layer") == of_layer]
    contents = [job.contents[index] for index in shard.indices]
    return f"records/{of_file(common, contents, method, metrics)[:40]}.parquet"


def of_whole_set(files: Iterable[str], metrics: Iterable[Plugin]) -> str:
    """The file of one method's values of the whole data set. files: its shards' records; metrics: with an aggregate."""
    sources_of = [sources.module(str(metric.spec.aggregate).rpartition(".")[0]) for metric in metrics]
    return f"records/{_sha256(whole_set=list(files), sources=sources_of)[:40]}.parquet"


def plugin(entry: Plugin) -> str:
    """A method's or metric's call, metadata and source, with the source of what it imports and of what it wraps.

    Of a method that runs another library's code, also the version of that `library`.
    """
    module = entry.target.rpartition(".")[0]
    inner = plugin(entry.inner) if entry.inner else None
    library = getattr(entry.spec, "library", None)
    version = {"library": version_of(library)} if library else {}
    return _sha256(entry=entry.fingerprint, sources=sources.module(module) if module else None, inner=inner, **version)


def network(module: nn.Module) -> str:
    """A network's layers as torch prints them, and its source where that isn't an installed library's."""
    defined_in = sorted({type(part).__module__ for part in module.modules()})
    return _sha256(layers=repr(module), sources=[sources.module(name) for name in defined_in])


def reshape(said: AnyReshape | None) -> str:
    """What makes maps of a layer's output: in words, or the class and source of an object of the user's own."""
    if not isinstance(said, Reshape):
        return repr(said)
    kind = type(said)
    return _sha256(name=kind.__qualname__, source=sources.module(kind.__module__))


@cache
def versions() -> dict[str, str]:
    """The installed versions of the libraries that values depend on."""
    return {name: version_of(name) for name in LIBRARIES}


def version_of(library: str) -> str:
    """A library's installed version; "absent" where it isn't installed as a distribution."""
    try:
        return version(library)
    except PackageNotFoundError:
        return "absent"


def _sha256(**facts: object) -> str:
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
