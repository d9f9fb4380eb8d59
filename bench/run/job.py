"""A job: one model, cut at one layer, on one data set, with methods and metrics.

A command line with several models, layers or data sets has a job for each combination. `Job.of`
loads and checks one, and all steps of a run read it. All methods and metrics of a job share one
trace (a recorded forward pass) per batch.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, cached_property
from pathlib import Path

from axiom_bench.cutting.cut_model import CutModel, cut
from axiom_bench.data.base import DataSet, FileHashes, check_labels, fingerprints, subset
from axiom_bench.data.batch import Batch
from axiom_bench.data.loading import TARGET_RULES
from axiom_bench.data.mosaic import MosaicImages
from axiom_bench.data.registry import load_dataset
from axiom_bench.errors import BenchError, first_names, plural, unknown_name, verb
from axiom_bench.evaluation import plugins, whole_set
from axiom_bench.evaluation.measurement import check_names
from axiom_bench.evaluation.plugins import AnyPlugin, Method, Metric
from axiom_bench.explanation.explanation import check_normalise
from axiom_bench.models.load import LoadedModel, background_of, load_model
from axiom_bench.models.spec import OBJECT_OUTPUTS
from axiom_bench.notes import WARNINGS, Notes
from axiom_bench.records import files
from axiom_bench.records.files import safe_name
from axiom_bench.run.composing.device import Device
from axiom_bench.run.composing.settings import Settings
from axiom_bench.run.progress import progress

HASHES = "image_hashes.json"  # a file of the run folder
MAX_NAMES = 5  # images that are left out and listed by name

# Target rules of networks that find objects.
DETECTIONS = "detections"
MATCHED = "matched"
MASKS = "masks"
OBJECT_RULES = (DETECTIONS, MATCHED, MASKS)
OBJECT_RULE_BY_CLASS_RULE = {"label": MATCHED, "each_label": MATCHED, "predicted": DETECTIONS}

Shard = tuple[int, ...]
"""Some images of a job, as positions in its data set. A shard is computed, stored and resumed as a
whole."""


def shards(indices: Sequence[int], size: int) -> tuple[Shard, ...]:
    """Divide the indices, in order, into shards of `size` images. The last shard may be smaller."""
    return tuple(tuple(indices[start : start + size]) for start in range(0, len(indices), size))


@dataclass(frozen=True)
class Job:
    """A job, loaded and checked."""

    settings: Settings = field(compare=False, repr=False)
    """The command's settings, for this job."""
    experiment: str
    """The name of the experiment."""
    model: LoadedModel
    """The network, its layer and its preprocessing."""
    cut_model: CutModel = field(compare=False, repr=False)
    """The network on the device, cut at its layer."""
    data: DataSet
    """The data set."""
    indices: tuple[int, ...]
    """Positions in `data` of the images to explain."""
    target: str
    """The rule that names the class to explain, one of `TARGET_RULES` or `OBJECT_RULES`."""
    normalise: str
    """How heatmaps are scaled."""
    methods: tuple[Method, ...]
    metrics: tuple[Metric, ...]
    device: Device
    """The device that computes the job, with its precision and limits."""
    shard_size: int
    """The number of images in a shard."""
    batch_size: int
    """The number of rows in a batch. A row is one image with one class to explain."""
    workers: int
    """The number of processes that read images."""
    cache: str | None = None
    """The folder of decoded images."""
    hashes: FileHashes = field(default_factory=FileHashes, compare=False, repr=False)
    """The SHA-256 of image files."""
    notes: Notes = field(default_factory=Notes, compare=False, repr=False)
    """Sentences for the user that the code has found so far. Copies of the job share them."""
    all_indices: tuple[int, ...] = ()
    """`indices`, and the positions of the images that data.only_correct leaves out."""
    left_out: tuple[str, ...] = ()
    """The ids of the images that data.only_correct leaves out."""
    left_out_reason: str | None = None
    """The reason why images may be left out."""
    mosaic_sources: Mapping[str, object] | None = None
    """The images that mosaics were made of, for the manifest; None for other data.

    `of` names their data set, and `images` counts its images. `of_one_class` counts the images of
    one class, and `unreadable` those among them that can't be read. `confident` counts the images
    that the model classifies with at least the probability `confidence` (null: all of them), and
    `in_mosaics` those that a mosaic shows.
    """
    source_fingerprint: str | None = None
    """The fingerprint of the images in which the network has found the explained objects; None for
    other networks."""

    @property
    def file_stem(self) -> str:
        """The model and the layer, for the names of files that people look at."""
        return safe_name(f"{self.model.name}-{self.model.layer}")

    @staticmethod
    def of(settings: Settings) -> Job:
        """Load and check a job. Raise BenchError if something is missing or doesn't fit."""
        target = settings.target
        if target not in (None, *TARGET_RULES, *OBJECT_RULES):
            raise unknown_name("target rule", target, (*TARGET_RULES, *OBJECT_RULES))
        normalise = check_normalise(settings.normalise)
        device = Device.of(settings.device)
        device.prepare()
        methods = chosen("method", settings.method)
        metrics = chosen("metric", settings.metric)
        data = settings.data
        # The network loads after the data, since it takes longest, unless the data set asks for its
        # classes. A data set whose samples are arrays passes their shape.
        network = cache(lambda *shape: load_model(settings.model, *shape))
        background = background_of(settings.model)
        dataset = load_dataset(data, lambda *shape: network(*shape).named_classes, background)
        loaded = network() if dataset.shape is None else network(dataset.shape)
        # the size of mosaics counts the mosaics
        size = None if isinstance(dataset, MosaicImages) else data["size"]
        indices = subset(
            dataset, size, data["seed"], data.get("only_classes"), data.get("leave_out")
        )
        preprocessing = replace(
            loaded.preprocessing, scaled_decoding=data.get("scaled_decoding", False)
        )
        if loaded.inputs is not None and isinstance(dataset, MosaicImages):
            raise BenchError(
                f"A mosaic shows several images, and {loaded.inputs.name} has a row for each: set "
                "other data."
            )
        inputs = loaded.inputs and loaded.inputs.for_images(
            dataset.ids, [dataset.ids[index] for index in indices]
        )
        model = replace(loaded, preprocessing=preprocessing, inputs=inputs)
        default_target = "predicted" if dataset.unlabelled else "label"
        notes = Notes()
        job = Job(
            settings=settings,
            experiment=str(settings.experiment),
            model=model,
            cut_model=cut_at_layer(model, device, notes),
            data=dataset,
            indices=indices,
            target=_target_rule(loaded, target or default_target),
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
        """Raise BenchError if the target rule needs labels and the data's labels can't be classes
        of the model.

        Otherwise the wrong class would be explained in each image, without an error.
        """
        if self.target in ("predicted", DETECTIONS, MASKS):
            return
        if self.data.unlabelled:
            raise BenchError(
                f"The images of {self.data.name!r} have no labels ({self.data.unlabelled}); set "
                "target=predicted, or name the folders after the network's classes: names, indices "
                "or ImageNet's synset ids."
            )
        model_classes = self.model.number_of_classes
        data_classes = len(self.data.classes)
        check_labels(self.data, self.indices, model_classes)
        if not self.shares_classes:
            background = ""
            if model_classes == data_classes + 1:
                background = "model.background=0 if output 0 is the background (-1: the last), "
            raise BenchError(
                f"The model {self.model.name} has {model_classes} classes and the data set "
                f"{self.data.name} {data_classes}, so labels don't name the model's classes; set "
                f"{background}data.classes to the model's classes in the order of its outputs, "
                "target=predicted, or, for an ImageNet model on VOC, model.output=voc_groups."
            )

    def lines(self) -> tuple[str, ...]:
        """Return the lines about the model and the images that the command prints at its end."""
        lines = [*self.model.lines, *self.data_notes]
        if self.model.recognition_note:
            lines.append(self.model.recognition_note)
        if self.mosaic_sources is not None:
            counts = self.mosaic_sources
            unreadable = f" ({counts['unreadable']} can't be read)" if counts["unreadable"] else ""
            confident = ""
            if counts["confidence"] is not None:
                confident = (
                    f" and are predicted with a probability of at least {counts['confidence']}"
                )
            lines.append(
                f"{counts['confident']} of {counts['images']} images of "
                f"{counts['of']!r}{unreadable} show one class{confident}; {counts['in_mosaics']} "
                f"of them are in the {counts['mosaics']} mosaics."
            )
        if self.left_out:
            are = verb(len(self.left_out), "is", "are")
            count = (
                f"{len(self.left_out)} of {plural(len(self.all_indices), 'image')} {are} left out"
            )
            names = first_names(self.left_out, MAX_NAMES)
            lines.append(f"{count}: the model doesn't classify them correctly ({names}).")
        return tuple(lines)

    @property
    def sample_workers(self) -> int:
        """The number of processes that read a few images: 1, since a decoder may crash its process,
        or 0 if the job reads images in its own process.
        """
        return min(self.workers, 1)

    @property
    def shares_classes(self) -> bool:
        """True if data and model have equally many classes, so that a class index means the same to
        both.

        Otherwise no label, box or mask may be used, and only target=predicted is allowed.
        """
        return self.model.number_of_classes == len(self.data.classes)

    @cached_property
    def class_names(self) -> tuple[str, ...]:
        """The names of the model's classes for readers, by class index.

        The data set's names are used if it shares the model's classes, and either has readable
        names for them or the model has no names. Otherwise the model's own names are used, or the
        class indices if it has none.
        """
        data = self.data
        model_names = self.model.classes
        if self.shares_classes and (model_names is None or data.class_names != data.classes):
            return data.class_names
        return model_names or tuple(map(str, range(self.model.number_of_classes)))

    @property
    def data_notes(self) -> tuple[str, ...]:
        """Sentences about the data that a reader needs to interpret the job's values."""
        if self.shares_classes or self.model.says_words or self.data.unlabelled:
            return self.data.notes
        sentence = (
            f"the {len(self.data.classes)} classes of {self.data.name!r} aren't the "
            f"{self.model.number_of_classes} of {self.model.name}, so boxes and masks aren't "
            "used: metrics that need them have no value."
        )
        return (*self.data.notes, sentence)

    @property
    def name(self) -> str:
        """The job's name in messages."""
        return f"{self.model.name} at {self.model.layer} on {self.data.name}"

    @property
    def columns(self) -> dict[str, str]:
        """The columns that are the same in all of the job's records."""
        model = self.model
        return {
            "experiment": self.experiment,
            "model": model.name,
            "layer": model.layer,
            "data": self.data.name,
        }

    @cached_property
    def shards(self) -> tuple[Shard, ...]:
        """The images to explain, divided into shards."""
        return shards(self.indices, self.shard_size)

    @cached_property
    def contents(self) -> dict[int, str]:
        """The text that identifies the content of each image to explain, by its position in the
        data set.

        It consists of the id, the SHA-256 of the image, the labels, which may be in another file,
        and the SHA-256 of the network's further inputs for this image, if the network has any.
        """
        data = self.data
        labels = self.labels
        inputs = self.model.inputs
        contents = {}
        with progress(f"{self.name}: hashing the images", len(self.indices)) as display:
            digests = fingerprints(data, self.indices, self.hashes)
            for index, digest in zip(self.indices, digests, strict=True):
                image_id = data.ids[index]
                input_digest = inputs.sha256(image_id) if inputs else ""
                contents[index] = f"{image_id} {digest} {labels[index]} {input_digest}".rstrip()
                display.advance(1)
        return contents

    @cached_property
    def labels(self) -> dict[int, tuple[int, ...]]:
        """All labels of each image to explain, by its position. They are cached, since some data
        sets read a file for each image.
        """
        return {index: self.data.labels(index) for index in self.indices}

    @cached_property
    def batch_rows(self) -> int:
        """The number of rows that every batch is padded to: `batch_size`, or the rows of the
        largest shard if fewer.
        """
        largest_shard = max(map(self.rows, self.shards), default=1)
        return min(self.batch_size, largest_shard) or 1

    def rows(self, shard: Shard) -> int:
        """Return the number of rows of a shard: one per image, or one per label if
        target=each_label.

        A crop that cuts an object away leaves fewer rows.
        """
        if self.target != "each_label":
            return len(shard)
        return sum(len(self.labels[index]) for index in shard)

    @cached_property
    def num_batches(self) -> int:
        """The number of batches that all rows fill. Shards whose last batch isn't full have a few
        more.
        """
        return -(-self.rows(self.indices) // self.batch_rows)

    def target_name(self, row: str, target: int) -> str:
        """Return the name of the class, or the word, that a row explains."""
        inputs = self.model.inputs
        word = None if inputs is None else inputs.row_name(row)
        return self.class_names[target] if word is None else word

    def with_inputs(self, batch: Batch) -> Batch:
        """Return the batch with the network's further inputs added, if it has any."""
        inputs = self.model.inputs
        return batch if inputs is None else inputs.add_to_batch(batch)

    @property
    def data_fingerprint(self) -> str:
        """The SHA-256 of the ids, the content and the labels of the images to explain, in order."""
        if self.source_fingerprint:
            return self.source_fingerprint
        return hashlib.sha256("\n".join(self.contents.values()).encode()).hexdigest()


def _target_rule(model: LoadedModel, target: str) -> str:
    """Return the target rule, translated if the network finds objects or says words.

    Raise BenchError if the rule is for networks that find objects and this network doesn't.
    """
    if model.says_words:
        return DETECTIONS
    if model.finds_objects:
        return OBJECT_RULE_BY_CLASS_RULE.get(target, target)
    if target in OBJECT_RULES:
        raise BenchError(
            f"target={target} is of networks that find objects; set "
            f"model.output={' or '.join(OBJECT_OUTPUTS)}, or target={' or '.join(TARGET_RULES)}."
        )
    return target


def cut_at_layer(model: LoadedModel, device: Device, notes: Notes = WARNINGS) -> CutModel:
    """Move the model to the device, cut it at its layer, and return it. Its first trace adds to
    `notes`.
    """
    cut_model = cut(
        model.module.to(device.device),
        model.layer,
        device.precision,
        device.head_precision,
        device.ablation_memory,
        model.reshape,
        model.output,
        device.ablation_channels,
    )
    cut_model.notes = notes
    if model.inputs is not None:
        cut_model.take(model.inputs.takes)
    if model.finetuned is not None:
        cut_model.finetuned = model.finetuned.to(device.device)
    return cut_model


def chosen(kind: str, entries: Mapping[str, object]) -> tuple[AnyPlugin, ...]:
    """Return the plug-ins of these entries: methods or metrics, according to `kind`.

    Raise BenchError if a plug-in can't be imported, or if there is no entry.
    """
    if not entries:
        raise BenchError(
            f"No {kind} is chosen; choose some, for example {kind}=[{plugins.names(kind)[0]}]."
        )
    for entry in entries.values():
        if not isinstance(entry, Mapping):
            continue  # `from_config` reports it
        is_ours = str(entry.get("_target_")).startswith("axiom_bench.")
        if not is_ours or "library" in entry:
            # A user's module, or another library, may import torchvision next to a CPU-only torch.
            # The import takes seconds, so the package's own plug-ins don't pay for it.
            import axiom_bench.data.torchvision_import  # noqa: F401
    loaded = tuple(plugins.from_config(kind, name, entry) for name, entry in entries.items())
    if kind == "metric":
        check_names(loaded)
        for metric in whole_set.aggregating(loaded):
            whole_set.aggregate(metric)  # raises BenchError if the function can't be called
    return loaded


def read_hashes(folder: Path, notes: Notes = WARNINGS) -> FileHashes:
    """Read the hashes of image files that the run folder keeps, so that a second run needn't read
    the images.

    Return empty hashes if the run folder has no such file, or if the file is damaged.
    """
    hashes = (files.read_json_or_none(folder / HASHES, notes) or {}).get("files")
    return FileHashes(hashes if isinstance(hashes, dict) else {})


def keep_hashes(job: Job, folder: Path) -> None:
    """Hash the job's images, and keep new hashes for the next run. Raise BenchError if the folder
    can't be written.

    If two processes write at once, the file of the last one stays, and the next run reads again the
    images that only the other process hashed.
    """
    hashes = job.hashes
    if job.contents and hashes.current.items() - hashes.cached.items():
        entries = {**hashes.cached, **hashes.current}
        files.write_json(folder / HASHES, {"files": entries})
