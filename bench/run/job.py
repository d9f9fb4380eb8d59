"""A job: one model, cut at one layer, on one data set, with the methods and metrics that one trace serves."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, cached_property
from pathlib import Path
from typing import Any

from axiom_bench.cutting.trace import CutModel, cut
from axiom_bench.data.base import DataSet, FileHashes, check_labels, fingerprints, subset
from axiom_bench.data.batch import Batch
from axiom_bench.data.loading import TARGET_RULES
from axiom_bench.data.mosaic import MosaicImages
from axiom_bench.data.registry import load_dataset
from axiom_bench.errors import BenchError, unknown
from axiom_bench.evaluation import plugins, whole_set
from axiom_bench.evaluation.measurement import check_names
from axiom_bench.evaluation.plugins import Plugin
from axiom_bench.explanation.explanation import check_normalise
from axiom_bench.models.load import LoadedModel, load_model
from axiom_bench.models.spec import OBJECT_OUTPUTS, ModelSpec
from axiom_bench.notes import WARNINGS, Notes
from axiom_bench.records import files
from axiom_bench.records.files import safe_name
from axiom_bench.run.composing.device import Device
from axiom_bench.run.composing.settings import Settings
from axiom_bench.run.progress import progress

HASHES = "image_hashes.json"
DETECTIONS, MATCHED, MASKS = "detections", "matched", "masks"  # target rules of networks that find objects
OBJECT_RULES = (DETECTIONS, MATCHED, MASKS)
OF_OBJECTS = {"label": MATCHED, "each_label": MATCHED, "predicted": DETECTIONS}  # what other rules mean for these


Shard = tuple[int, ...]  # some images, by their positions in the data set


def shards(indices: Sequence[int], size: int) -> tuple[Shard, ...]:
    """The indices cut, in order, into shards of `size` images, the last may be smaller."""
    return tuple(tuple(indices[start : start + size]) for start in range(0, len(indices), size))


@dataclass(frozen=True)
class Job:
    """A job, loaded and checked.

    Attributes:
        settings: The command's, for this job.
        experiment: Its name.
        model: The network, its layer and its preprocessing.
        cut_model: The network on the device, cut at its layer.
        data: The data set.
        indices: Positions in `data` of the images to explain.
        target: The rule that names the class to explain.
        normalise: How heatmaps are scaled.
        methods: The methods.
        metrics: The metrics.
        device: Where it is computed.
        shard_size: The number of images in a shard.
        batch_size: The number of rows in a batch.
        workers: The number of processes that read images.
        cache: The folder of decoded images.
        hashes: Of image files.
        notes: Sentences for the user that the code has found so far. They go on with what is made of the job.
        all_indices: As `indices`, with those that data.only_correct leaves out.
        left_out: The ids of these.
        others: Why images may be left out.
        made_of: The images that mosaics were made of, for the manifest. `of` names their data set, `images` counts it.
            `of_one_class` counts those of one class, and of these `unreadable` those that can't be read. `confident`
            counts those that the model names with `confidence` (null: all), and `in_mosaics` those that a mosaic shows.
        of_images: The fingerprint of the images in which the network has found what is explained.
    """

    settings: Settings = field(compare=False, repr=False)
    experiment: str
    model: LoadedModel
    cut_model: CutModel = field(compare=False, repr=False)
    data: DataSet
    indices: tuple[int, ...]
    target: str
    normalise: str
    methods: tuple[Plugin, ...]
    metrics: tuple[Plugin, ...]
    device: Device
    shard_size: int
    batch_size: int
    workers: int
    cache: str | None = None
    hashes: FileHashes = field(default_factory=FileHashes, compare=False, repr=False)
    notes: Notes = field(default_factory=Notes, compare=False, repr=False)
    all_indices: tuple[int, ...] = ()
    left_out: tuple[str, ...] = ()
    others: str | None = None
    made_of: Mapping[str, Any] | None = None
    of_images: str | None = None

    @property
    def file_stem(self) -> str:
        """The model and the layer, for names of files that people look at."""
        return safe_name(f"{self.model.name}-{self.model.layer}")

    @staticmethod
    def of(settings: Settings) -> Job:
        """Load and check everything. Raises BenchError if something is missing or doesn't fit."""
        target = settings.target
        if target not in (None, *TARGET_RULES, *OBJECT_RULES):
            raise unknown("target rule", target, (*TARGET_RULES, *OBJECT_RULES))
        normalise, device = check_normalise(settings.normalise), Device.of(settings.device)
        device.prepare()
        methods, metrics = chosen("method", settings.method), chosen("metric", settings.metric)
        data = settings.data
        # after the data, unless they ask for it: it takes longest. shape: of samples that are arrays
        network = cache(lambda *shape: load_model(settings.model, *shape))
        background = ModelSpec.of(settings.model).background
        dataset = load_dataset(data, lambda *shape: network(*shape).named_classes, background)
        loaded = network() if dataset.shape is None else network(dataset.shape)
        size = None if isinstance(dataset, MosaicImages) else data["size"]  # of mosaics it counts what they make
        indices = subset(dataset, size, data["seed"], data.get("only_classes"), data.get("leave_out"))
        preprocessing = replace(loaded.preprocessing, scaled_decoding=data.get("scaled_decoding", False))
        if loaded.inputs is not None and isinstance(dataset, MosaicImages):
            raise BenchError(
                f"A mosaic shows several images, and {loaded.inputs.name} has a row for each: set other data."
            )
        inputs = loaded.inputs and loaded.inputs.of_images(dataset.ids, [dataset.ids[index] for index in indices])
        model = replace(loaded, preprocessing=preprocessing, inputs=inputs)
        notes = Notes()
        job = Job(
            settings=settings,
            experiment=str(settings.experiment),
            model=model,
            cut_model=cut_of(model, device, notes),
            data=dataset,
            indices=indices,
            target=_target_rule(settings.model, target or ("predicted" if dataset.unlabelled else "label")),
            normalise=normalise,
            methods=methods,
            metrics=metrics,
            device=device,
            shard_size=settings.shard_size,
            batch_size=data["batch_size"],
            workers=data["workers"],
            cache=data.get("cache"),
            notes=notes,
            all_indices=indices,
        )
        job.check()
        return job

    def check(self) -> None:
        """Raises BenchError where labels of the data can't be classes of the model."""
        if self.target in ("predicted", DETECTIONS, MASKS):
            return
        if self.data.unlabelled:
            raise BenchError(
                f"The images of {self.data.name!r} have no labels ({self.data.unlabelled}); set target=predicted, or "
                "call the folders by the network's classes: names, indices or ImageNet's synset ids."
            )
        of_model, of_data = self.model.number_of_classes, len(self.data.classes)
        check_labels(self.data, self.indices, of_model)
        if not self.shares_classes:
            background = "model.background=0 if output 0 is the background (-1: the last), " * (of_model == of_data + 1)
            raise BenchError(
                f"The model {self.model.name} has {of_model} classes and the data set {self.data.name} {of_data}, so "
                f"labels don't name the model's classes; set {background}data.classes to the model's classes in the "
                "order of its outputs, target=predicted, or, for an ImageNet model on VOC, model.output=voc_groups."
            )

    def lines(self) -> tuple[str, ...]:
        """For the user, before anything is computed."""
        lines = [*self.model.lines, *self.data_notes, *filter(None, [self.model.recognised])]
        if (of := self.made_of) is not None:
            unreadable = f" ({of['unreadable']} can't be read)" if of["unreadable"] else ""
            sure = f" and are named with a probability of at least {of['confidence']}"
            lines.append(
                f"{of['confident']} of {of['images']} images of {of['of']!r}{unreadable} show one class"
                f"{'' if of['confidence'] is None else sure}; {of['in_mosaics']} of them are in the {of['mosaics']} "
                "mosaics."
            )
        if self.left_out:
            count = f"{len(self.left_out)} of {len(self.all_indices)} images are left out"
            lines.append(f"{count}: the model doesn't name them correctly.")
        return tuple(lines)

    @property
    def one_worker(self) -> int:
        """The processes that read a few images: one, since a decoder may end it, where the job has any."""
        return min(self.workers, 1)

    @property
    def shares_classes(self) -> bool:
        """Whether a class index means the same to data and model, as far as their number of classes tells. Where it
        doesn't, which target=predicted alone allows, no label, box or mask may be used."""
        return self.model.number_of_classes == len(self.data.classes)

    @cached_property
    def class_names(self) -> tuple[str, ...]:
        """What people call the model's classes, by class index: the data set's names, where it has some beside its
        classes' own and shares the model's; else the model's; its indices where nobody tells."""
        data, names = self.data, self.model.classes
        if self.shares_classes and (names is None or data.class_names != data.classes):
            return data.class_names
        return names or tuple(map(str, range(self.model.number_of_classes)))

    @property
    def data_notes(self) -> tuple[str, ...]:
        """Sentences about the data that a reader needs to interpret the job's values."""
        if self.shares_classes or self.data.unlabelled:
            return self.data.notes
        of_model, of_data = self.model.number_of_classes, len(self.data.classes)
        return (
            *self.data.notes,
            f"the {of_data} classes of {self.data.name!r} aren't the {of_model} of {self.model.name}, so boxes and "
            "masks aren't used: metrics that need them have no value.",
        )

    @property
    def name(self) -> str:
        """The job's name in messages."""
        return f"{self.model.name} at {self.model.layer} on {self.data.name}"

    @property
    def columns(self) -> dict[str, str]:
        """The columns that are the same in all of the job's records."""
        model = self.model
        return {"experiment": self.experiment, "model": model.name, "layer": model.layer, "data": self.data.name}

    @cached_property
    def shards(self) -> tuple[Shard, ...]:
        """The images in slices."""
        return shards(self.indices, self.shard_size)

    @cached_property
    def contents(self) -> dict[int, str]:
        """For each chosen image its id, the SHA-256 of its content, its labels, which may be in another file, and the
        SHA-256 of what the network takes beside it, if anything."""
        data, labels, inputs, contents = self.data, self.labels, self.model.inputs, {}
        with progress(f"{self.name}: hashes of the images", len(self.indices)) as shown:
            for index, digest in zip(self.indices, fingerprints(data, self.indices, self.hashes), strict=True):
                beside = inputs.sha256(data.ids[index]) if inputs else ""
                contents[index] = f"{data.ids[index]} {digest} {labels[index]} {beside}".rstrip()
                shown.advance(1)
        return contents

    @cached_property
    def labels(self) -> dict[int, tuple[int, ...]]:
        """For each chosen image all its labels: of some data sets that is a file to read."""
        return {index: self.data.labels(index) for index in self.indices}

    @cached_property
    def batch_rows(self) -> int:
        """The number of rows that every batch is padded to: `batch_size`, but no more than the largest shard has."""
        return min(self.batch_size, max(map(self.rows, self.shards), default=1)) or 1

    def rows(self, shard: Shard) -> int:
        """How many rows a shard has: one an image, or one a label; fewer, where a crop cuts an object away."""
        if self.target != "each_label":
            return len(shard)
        return sum(len(self.labels[index]) for index in shard)

    @cached_property
    def num_batches(self) -> int:
        """How many batches all rows fill; shards that aren't full have a few more."""
        return -(-self.rows(self.indices) // self.batch_rows)

    def with_inputs(self, batch: Batch) -> Batch:
        """The batch with what the network takes beside its images."""
        inputs = self.model.inputs
        return batch if inputs is None else inputs.beside(batch)

    @property
    def data_fingerprint(self) -> str:
        """SHA-256 over the ids, the content and the labels of the chosen images, in order."""
        return self.of_images or hashlib.sha256("\n".join(self.contents.values()).encode()).hexdigest()


def _target_rule(model: Mapping[str, Any], target: str) -> str:
    """The rule itself, or what it means for a network that finds objects. Raises BenchError for one of such networks
    where the network finds none."""
    if model.get("output") in OBJECT_OUTPUTS:
        return OF_OBJECTS.get(target, target)
    if target in OBJECT_RULES:
        raise BenchError(
            f"target={target} is of networks that find objects; set model.output={' or '.join(OBJECT_OUTPUTS)}, or "
            f"target={' or '.join(TARGET_RULES)}."
        )
    return target


def cut_of(model: LoadedModel, device: Device, notes: Notes = WARNINGS) -> CutModel:
    """Return the model on the device, cut at its layer. notes: get what its first trace finds."""
    module, precisions = model.module.to(device.device), (device.precision, device.head_precision)
    memory, budget = device.ablation_memory, device.ablation_channels
    cut_model = cut(module, model.layer, *precisions, memory, model.reshape, model.output, budget)
    cut_model.notes = notes
    if model.inputs is not None:
        cut_model.take(model.inputs.takes)
    if model.finetuned is not None:
        cut_model.finetuned = model.finetuned.to(device.device)
    return cut_model


def chosen(kind: str, entries: Mapping[str, Any]) -> tuple[Plugin, ...]:
    """Return the methods or metrics of these entries, as `kind` says.

    Raises BenchError for one that can't be imported, and if there is none.
    """
    if not entries:
        raise BenchError(f"No {kind} is chosen; name some, for example {kind}=[{plugins.names(kind)[0]}].")
    mappings = [entry for entry in entries.values() if isinstance(entry, Mapping)]
    if not all(str(entry.get("_target_")).startswith("axiom_bench.") and "library" not in entry for entry in mappings):
        # A user's module, or another library, may import torchvision beside a CPU-only torch.
        import axiom_bench.data.torchvision_import  # noqa: F401 - here: it takes seconds
    listed = tuple(plugins.from_config(kind, name, entry) for name, entry in entries.items())
    if kind == "metric":
        check_names(listed)
        for metric in whole_set.aggregating(listed):
            whole_set.aggregate(metric)  # which refuses what can't be called
    return listed


def read_hashes(folder: Path, notes: Notes = WARNINGS) -> FileHashes:
    """Return the hashes of image files that the run folder keeps, so that a second run needn't read the images.

    If there are none, or the file is damaged, the result is empty.
    """
    hashes = (files.read_json_or_none(folder / HASHES, notes) or {}).get("files")
    return FileHashes(hashes if isinstance(hashes, dict) else {})


def keep_hashes(job: Job, folder: Path) -> None:
    """Hashes the job's images and keeps what is new for the next run. Of two processes that write at once the last
    one's file stays, and the images that only the other hashed are read again by the next run. Raises BenchError where
    the folder can't be written."""
    hashes = job.hashes
    if job.contents and hashes.current.items() - hashes.cached.items():
        entries = {**hashes.cached, **hashes.current}
        files.write_json(folder / HASHES, {"files": entries})
