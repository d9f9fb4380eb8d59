"""The typed manifest of a run folder, parsed once and read by attributes everywhere.

A run folder may come from a stranger: its readers rely on these types only. Every model keeps
entries that it has no field for, so that a manifest that is read and written again loses nothing.
Models are frozen. Their lists and mappings aren't, so change none: make a copy with `model_copy`.
"""

from __future__ import annotations

import json
import textwrap
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Annotated, Any, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ModelWrapValidatorHandler,
    PlainValidator,
    PrivateAttr,
    SerializerFunctionWrapHandler,
    ValidationError,
    ValidationInfo,
    model_serializer,
    model_validator,
)
from pydantic_core import PydanticCustomError

MAX_PLACE = 100  # characters of an entry's place in an error
MAX_PATH = 1000  # characters of a file's name in the folder
EXPECTED = {  # the expected kind of entry, by pydantic's name of an error
    "dict_type": "a mapping",
    "model_type": "a mapping",
    "list_type": "a list",
    "string_type": "text",
    "scalar_type": "text or a number",
    "float_type": "a number",
    "int_type": "a whole number",
    "bool_type": "true or false",
}


def parse(entries: Mapping[str, object]) -> Manifest:
    """Return the manifest of plain data. Files of combined runs may be in other folders.

    Raises:
        ValueError: If an entry isn't of its type; the message names the first such entry.
    """
    try:
        return Manifest.model_validate(entries, strict=True, context=bool(entries.get("runs")))
    except ValidationError as error:
        raise ValueError(_problem(error)) from error


def _problem(error: ValidationError) -> str:
    """Return a sentence on the first entry that isn't of its type."""
    first = error.errors(include_url=False, include_context=False)[0]
    place = ".".join(map(str, first["loc"]))[:MAX_PLACE]
    text = textwrap.shorten(json.dumps(first["input"], default=str), 60, placeholder="...")
    if first["type"] == "missing":
        return f"it has no {place!r}"
    if first["type"] == "file_name":
        return f"its {first['loc'][0]!r} names {text}, which is no file of a run folder"
    expected = EXPECTED.get(first["type"], "something else")
    return f"its {place!r} must be {expected}, not {text}"


def _scalar(value: object) -> object:
    if isinstance(value, str | int | float):
        return value
    raise PydanticCustomError("scalar_type", "text or a number")


def _number(value: object) -> object:
    """Keep a whole number whole, so that it is written as it was read."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return value
    raise PydanticCustomError("float_type", "a number")


def _inside(name: str, info: ValidationInfo) -> str:
    """Return the name of a file if it stays inside the run folder, or if runs are combined."""
    path = PurePosixPath(name[: MAX_PATH + 1])
    is_inside = (
        path.parts and not path.is_absolute() and ".." not in path.parts and "\0" not in name
    )
    if info.context or (is_inside and len(name) <= MAX_PATH):
        return name
    raise PydanticCustomError("file_name", "a file of the run folder")


# `Any` or `object`, because pydantic would convert a value that another annotation doesn't expect,
# or warn when it writes the value.
Number = Annotated[Any, PlainValidator(_number)]
Scalar = Annotated[Any, PlainValidator(_scalar)]
Free = dict[str, Any]
Files = list[Annotated[str, AfterValidator(_inside)]]
Numbers = dict[str, dict[str, Number]]


class Entries(BaseModel):
    """A part of a manifest. An entry that is missing, or null, has its default. Entries without a
    field are kept.
    """

    model_config = ConfigDict(extra="allow", frozen=True)
    _order: tuple[str, ...] = PrivateAttr(())

    @model_validator(mode="wrap")
    @classmethod
    def _read(cls, entries: object, handler: ModelWrapValidatorHandler[Self]) -> Self:
        """Give null entries their defaults, and remember the order in which entries are written
        again.
        """
        if not isinstance(entries, Mapping):
            return handler(entries)
        filled = dict(entries)
        for name, field in cls.model_fields.items():
            if name in filled and filled[name] is None and not field.is_required():
                filled[name] = field.get_default(call_default_factory=True)
        read = handler(filled)
        read._order = tuple(filled)
        return read

    @model_serializer(mode="wrap")
    def _write(self, handler: SerializerFunctionWrapHandler) -> dict[str, object]:
        """Return plain data: the entries that are set, with new entries last."""
        written = handler(self)
        names = [name for name in dict.fromkeys([*self._order, *written]) if name in written]
        return {name: written[name] for name in names if name in self.model_fields_set}

    @property
    def is_empty(self) -> bool:
        """True if no entry is set."""
        return not self.model_fields_set


class Cited(Entries):
    """The work that a method, a metric or a protocol cites."""

    text: str = ""
    """Authors, year and identifier, "Fu et al. 2020, arXiv:2008.02312"."""
    title: object = ""
    url: str = ""


class PluginEntry(Entries):
    """The metadata that methods and metrics share, from their YAML files and docstrings."""

    title: Scalar | None = None
    note: Scalar | None = None
    description: Scalar | None = None
    """The first line of the docstring."""
    definition: Scalar | None = None
    """The definition of the reference that the default parameters follow."""
    deviation: Scalar | None = None
    """The difference between the default parameters and this definition."""
    reference: str = ""
    """A key of conf/references.bib."""
    cited: Cited = Field(default_factory=Cited)
    """The work of this key."""
    computed_from: list[str] = []
    """The things that a metric reads, or a truth is made from, in addition to the map."""
    unstable: str = ""
    """The reason why answers for an image depend on other images, or differ from run to run."""


class MethodEntry(PluginEntry):
    """The metadata of a method, see `evaluation.specs.MethodSpec`."""

    target: object = None
    """The dotted path of the function."""
    params: Free = {}
    library: str = ""
    """The distribution whose code the method runs."""
    wins_by_construction: list[str] = []
    """The metrics in which the method can't be beaten, because of its formula."""
    on_score_scale: object = None
    needs_drops: object = None
    control: object = None
    blind: object = None
    spoiling: object = None
    degree: Any = None
    unspoiled: object = None
    exempt: Free = {}
    """{check: the reason why the method can't pass it by its nature}."""
    style: object = None
    passes: object = None
    """The passes per image; a text for a multiple of the layer's channels."""


class MetricEntry(PluginEntry):
    """The metadata of one value of a metric, see `evaluation.specs.MetricSpec`."""

    metric: str = ""
    """The metric that returns the value; empty if it has the value's name."""
    unit: str = ""
    kind: str = ""
    better: str = ""
    tolerance: str = ""
    of: str = ""
    """The subject that is measured: "method" or "layer"."""
    needs: list[object] = []
    """Preconditions: names, or mappings of a name to the parameters for which it counts."""
    reached_by: object = None
    """The controls that reach the best value."""


class ImagesEntry(Entries):
    """The images of one data set that a model explains."""

    chosen: Number = 0
    kept: Number = 0
    """The number of chosen images that were explained."""
    others: str | None = None
    """The reason why the other chosen images weren't explained."""
    mosaics: Free = {}
    """The images that mosaics were made from."""
    noun: str = "image"
    """What is counted: "image", or the "object" or "word" of a network of such."""


class ModelEntry(Entries):
    """A model, at one or several target layers."""

    layer: str = ""
    """The layer of the first job."""
    layers: list[str] = []
    depths: dict[str, Number] = {}
    """The position of each layer in the order in which the network runs them."""
    output: str = ""
    weights: Scalar | None = None
    weights_sha256: str | None = None
    images: dict[str, ImagesEntry] = {}
    """{data set: its images that the model explains}."""
    random_weights: bool = False
    tells_contributions: bool = False
    """True if the model knows the true contributions to its scores."""
    classes: list[Scalar] = []
    published_accuracy: Number = 0.0
    note: Scalar | None = None

    @property
    def all_layers(self) -> list[str]:
        """The layers that were explained, also if the model has only one job."""
        return self.layers or [self.layer]

    @property
    def layers_by_depth(self) -> list[str]:
        """The explained layers in the order in which the network runs them. Layers of unknown depth
        come first.
        """
        return sorted(self.all_layers, key=lambda layer: self.depths.get(layer, 0))


class DataEntry(Entries):
    """A data set."""

    ids: list[str] = []
    """The ids of the images."""
    fingerprint: str | None = None
    """A hash of the images and their annotations."""
    notes: list[str] = []


class ConfigEntry(Entries):
    """The resolved configuration of a job: the settings that readers use."""

    suite_part: object = None
    target: object = None
    """The rule that names the class to explain."""
    normalise: object = None
    protocol: Free | None = None
    model: Free = {}
    data: Free = {}
    metric: Free = {}
    pictures: Free = {}
    report: Free = {}


class JobEntry(Entries):
    """One model, at one layer, on one data set."""

    job: str
    """The name, "MODEL at LAYER on DATA"."""
    config: ConfigEntry = Field(default_factory=ConfigEntry)
    images: Number = 0
    """The number of explained images."""
    left_out: list[str] = []
    """The ids of images that data.only_correct leaves out."""
    warnings: list[str] = []
    """Sentences that change the meaning of the job's values."""
    notes: list[str] = []
    """Other sentences on the job, for its user."""
    records: Files = []
    """The record files that have the values."""
    values: dict[str, dict[str, str]] = {}
    """{method: {metric: key}}: the values to take from the record files."""


class FailureEntry(Entries):
    """A job that failed."""

    job: str = ""
    message: str = ""


class AddedEntry(Entries):
    """The command that computed a method which was added to published values later."""

    created: object = None
    git_commit: str | None = None
    hardware: object = None
    versions: object = None


class ProtocolEntry(Entries):
    """The protocol of a paper that a run follows."""

    name: object = None
    title: object = ""
    code: object = None
    """The place of the authors' code."""
    differences: list[object] = []
    """Sentences on the settings that differ."""
    paper_vs_code: list[object] = []
    """Sentences on the differences between the paper and its code."""
    not_covered: list[object] = []
    """Sentences on the parts of the paper's evaluation that the protocol lacks."""
    cited: Cited = Field(default_factory=Cited)


class Progress(Entries):
    """The progress of a command that hasn't ended."""

    jobs: int = 0
    images: dict[str, tuple[int, int]] = {}
    """{job: (images that are done, all images)}."""


class Facts(Entries):
    """The models, data sets, methods and metrics of a job or a run, by name, and the machine."""

    methods: dict[str, MethodEntry] = {}
    metrics: dict[str, MetricEntry] = {}
    """{value of a metric: its metadata}. A metric may have several values."""
    models: dict[str, ModelEntry] = {}
    data: dict[str, DataEntry] = {}
    device: object = None
    """The type of the device. This field and the next three are lists if jobs differ in them."""
    hardware: object = None
    """The GPU's name, or the CPU's instruction set."""
    threads: object = None
    precision: object = None


class RunEntry(Entries):
    """The command that made a run, and its machine."""

    experiment: Scalar = ""
    run: Scalar = ""
    created: str = ""
    overrides: list[str] = []
    """The command line."""
    versions: Free = {}
    """{distribution: version}."""
    git_commit: str | None = None
    device: object = None
    precision: object = None


class CombinedRun(RunEntry):
    """One of several runs that were combined."""

    folder: str = ""
    """The run folder, relative to that of the combination."""
    models: list[str] = []
    data: list[str] = []


class Manifest(RunEntry, Facts):
    """The manifest of a run: see `records.artefacts`."""

    runs: list[CombinedRun] = []
    """The runs of a combination; empty for a single run."""
    config: ConfigEntry = Field(default_factory=ConfigEntry)
    """The configuration of the first job."""
    protocol: ProtocolEntry = Field(default_factory=ProtocolEntry)
    axes: dict[str, Free] = {}
    """{curve: how to draw it}."""
    records: Files = []
    curves: Files = []
    whole_set: Files = []
    runtime: Files = []
    pictures: Files = []
    gallery: Files = []
    jobs: list[JobEntry] = []
    seconds: Numbers = {}
    """{job: {stage: seconds}}."""
    work: Numbers = {}
    """{job: {quantity: how much was computed}}."""
    failures: list[FailureEntry] = []
    added: dict[str, AddedEntry] = {}
    """{method: the command that added it}, if the values are published ones."""
    published: list[str] | None = None
    """The methods that a suite publishes, if the run also has values of other methods."""
    command: object = None
    """The id of the command, which separates its values of users' plug-ins from those of others."""
    state: str = ""
    """A key of `running.SENTENCES` if the command hasn't ended."""
    progress: Progress = Field(default_factory=Progress)
    format: object = None
    sha256: dict[str, str] = {}
    """{file: hash} of the files that the manifest lists."""

    @property
    def is_combined(self) -> bool:
        """True if several runs were combined, so that one value may be in several of their
        files.
        """
        return bool(self.runs)

    def files(self, kind: str) -> list[str]:
        """Return the files of one kind, see `records.artefacts.listed`."""
        files: list[str] | None = getattr(self, kind, None)
        return files or []


class AnnouncedJob(Manifest):
    """The manifest of one job of a command that hasn't ended."""

    shards: dict[str, int] | None = None
    """{shard: number of images} while the job runs, when its record files aren't listed yet."""
