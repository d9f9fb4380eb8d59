"""A finished run as tables, figures and the gate read it: the manifest and the records that it
lists, nothing else.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
from threadpoolctl import threadpool_limits

from axiom_bench.columns import LAYER, NOT_FINITE, OK, WHOLE_SET
from axiom_bench.environment import num_cores
from axiom_bench.records import reading
from axiom_bench.records.by_metric import (
    NAMES,
    PLACE,
    Block,
    Matrix,
    Records,
    RowLayout,
    image_numbers,
    layouts,
    matrix,
)
from axiom_bench.records.entries import ConfigEntry, ImagesEntry, Manifest, MethodEntry
from axiom_bench.statistics import summary as summaries
from axiom_bench.statistics.bootstrap import FEWEST_NETWORKS, OverNetworks, over_networks
from axiom_bench.statistics.comparison import Comparisons
from axiom_bench.statistics.labels import Metadata, Setting, Value, rows_at
from axiom_bench.statistics.summary import (
    SPLIT_KEYS,
    SPLITS,
    summarise,
    with_common_values,
    with_intervals,
)

METHOD_FREE = TRACE = (
    LAYER  # in the place of a method's name: a value of the layer; the time of the trace
)
MANY = 1_000_000  # rows of a run whose comparisons repay threads
NOT_A_WORD, MAX_STATUS = re.compile(r"\W", re.ASCII), 100  # of a status
AGAIN = "run the same command again to compute them"
ROW = ["image_id", "target_class"]
CLASS = "class"  # the unit of a value that names a class: such values are counted, not averaged
SHARE_MARKED = 0.01  # of the best other method's error
# the least error of a network on which methods differ; where they coincide by algebra it is
# rounding
COINCIDING = 1e-4


@dataclass(frozen=True)
class RunFolder:
    """A run, read once.

    manifest: the parsed manifest.json, with other report settings over its own. records: the rows
    of numbers, names in the manifest's order. class_records: the rows whose value is the index of a
    class. runtime: columns.RUNTIME_COLUMNS. whole_set: values of whole data sets with their
    bootstrap replicates, see `reading.WHOLE_SET_COLUMNS`.
    """

    path: Path
    manifest: Manifest
    records: Records
    class_records: Records
    runtime: pd.DataFrame
    whole_set: pd.DataFrame

    @classmethod
    def read(cls, path: Path) -> RunFolder:
        """Raises BenchError where the manifest, or a file that it lists, is missing or damaged."""
        return cls.of(Path(path), reading.read_manifest(Path(path)))

    @classmethod
    def of_suite(cls, path: Path) -> RunFolder:
        """The published values of a suite's part: all of the folder's, unless its manifest names
        those that are, beside others. Raises BenchError as `read`.
        """
        manifest = reading.read_manifest(path)
        if manifest.published is None:
            manifest = manifest.model_copy(update={"published": list(manifest.methods)})
        return cls.of(path, manifest)

    @classmethod
    def of(cls, path: Path, manifest: Manifest) -> RunFolder:
        """What this manifest counts, whichever the folder holds by now. Raises BenchError as
        `read`.
        """
        classes = [name for name, metric in manifest.metrics.items() if metric.unit == CLASS]
        records, class_records = reading.read_by_metric(path, manifest, classes)
        records, manifest = in_order(records, manifest), with_marks(manifest, records)
        runtime, orders = reading.read_runtime(path, manifest), _orders(manifest)
        return cls(
            path=path,
            manifest=manifest,
            records=records,
            class_records=in_order(class_records, manifest),
            runtime=runtime.assign(
                **{name: _category(runtime[name], orders[name]) for name in {*orders} & {*runtime}}
            ),
            whole_set=reading.read_whole_set(path, manifest),
        )

    @cached_property
    def metadata(self) -> Metadata:
        """What the manifest says about metrics, methods and models."""
        return Metadata(self.manifest)

    @property
    def config(self) -> ConfigEntry:
        """The configuration of the run; of a sweep, of its first job."""
        return self.manifest.config

    @cached_property
    def summary(self) -> pd.DataFrame:
        """One row for each setting, method and metric: see `summarise`, `with_common_values`,
        `with_stored_values` and `with_intervals`.
        """
        summary = summarise(self.records, image_value_of=self.image_value_of)
        summary = with_common_values(summary, self.records, self.layouts)
        summary = summaries.with_stored_values(summary, self.whole_set)
        summary = with_intervals(summary, self.records, self.layouts, self.metadata)
        constructed = {metric: self.metadata.by_construction(metric) for metric in self.metrics}
        pairs = zip(summary["method"], summary["metric"], strict=True)
        return summary.assign(
            by_construction=[method in constructed[metric] for method, metric in pairs]
        )

    @cached_property
    def layouts(self) -> Mapping[tuple[str, ...], RowLayout]:
        """{setting: the rows of its matrices}."""
        return layouts(self.records)

    def matrix(self, setting: Setting, metric: str) -> Matrix | None:
        """The values of images of one metric in one setting; None where there are none."""
        return matrix(self.records, self.layouts.get(setting), metric)

    @cached_property
    def split_summary(self) -> pd.DataFrame:
        """The summary of images whose class is predicted correctly, wrongly, or unknown: with the
        key `split`.
        """
        split = summaries.classified(self.records.keys)
        parts = {name: layouts(self.records, np.asarray(split == name)) for name in SPLITS}
        of_splits = {
            (*place, name): layout for name, part in parts.items() for place, layout in part.items()
        }
        summary = with_common_values(
            summarise(self.records, SPLIT_KEYS), self.records, of_splits, SPLIT_KEYS
        )
        rows = {name: summary[summary["split"] == name] for name in SPLITS}
        ends = [
            with_intervals(rows[name], self.records, parts[name], self.metadata) for name in SPLITS
        ]
        return pd.concat(ends).sort_index()

    @cached_property
    def metrics(self) -> tuple[str, ...]:
        """Names of all values in the records, in the manifest's order."""
        return self.records.metrics

    @cached_property
    def methods(self) -> tuple[str, ...]:
        """Names of all methods in the records, in the manifest's order."""
        return tuple(name for name in self.records.methods if name != METHOD_FREE)

    @cached_property
    def image_value_of(self) -> Mapping[str, str]:
        """{value of the whole data set: the value of images that it was computed from}."""
        records = self.records
        owner = {name: self.metadata.metric_of(name) for name in self.metrics}
        first = {owner[name]: name for name in reversed(records.measured())}
        whole_sets = (
            name for name, block in records.blocks.items() if records.of_whole_set[block.keys].any()
        )
        return {name: first.get(owner[name], name) for name in whole_sets}

    @cached_property
    def settings(self) -> tuple[Setting, ...]:
        """Every model x layer x data set with records, layers in the manifest's order."""
        places = (
            self.records.keys[list(Setting._fields)]
            .drop_duplicates()
            .sort_values(list(Setting._fields))
        )
        return tuple(Setting(*map(str, row)) for row in places.itertuples(index=False))

    @cached_property
    def trainings(self) -> tuple[tuple[Setting, ...], ...]:
        """The settings of three or more networks of one architecture that differ in their weights
        alone.
        """
        models = {job.job: job.config.model for job in self.manifest.jobs}
        groups: dict[str, list[Setting]] = {}
        for setting in self.settings:
            model = models.get(f"{setting.model} at {setting.layer} on {setting.data}", {})
            if model.get("architecture") is not None:
                built = [
                    str(model.get(key)) for key in ("source", "architecture", "kwargs", "output")
                ]
                groups.setdefault(" ".join([*built, setting.layer, setting.data]), []).append(
                    setting
                )
        return tuple(tuple(group) for group in groups.values() if len(group) >= FEWEST_NETWORKS)

    def over_networks(self, settings: Sequence[Setting], value: Value) -> dict[str, OverNetworks]:
        """{method: what the networks of these settings say of it}, of methods that have values in
        each of them.
        """
        rows, models = self.records.rows([value.name]), [setting.model for setting in settings]
        rows = pd.concat([rows_at(rows[rows["status"] == OK], setting) for setting in settings])
        rows = rows.drop_duplicates([*ROW, "model", "method"], keep="last").astype(
            {"image_id": object}
        )
        values = {
            str(method): of_method.pivot(index=ROW, columns="model", values="value").reindex(
                columns=models
            )
            for method, of_method in rows.groupby("method", observed=True)
        }
        return {
            method: over_networks(
                table.to_numpy(), image_numbers(table.index.get_level_values(0)), value.lead
            )
            for method, table in values.items()
            if table.notna().any().all()
        }

    @cached_property
    def comparisons(self) -> Comparisons:
        """All methods of a metric in a setting against each other."""
        return Comparisons(
            self.records,
            self.whole_set,
            self.layouts,
            self.metadata,
            frozenset(self.image_value_of),
        )

    def compare_all(self) -> None:
        """Computes the summaries and comparisons of a large run by as many threads as there are
        cores: sorting and products of matrices take the time, and leave the others free to go on.
        More threads within a product would only wait for each other.
        """
        if len(self.records) < MANY or not self.layouts:
            return
        comparisons, pairs = (
            self.comparisons,
            [(place, metric) for place in self.settings for metric in self.metrics],
        )
        with threadpool_limits(1, "blas"), ThreadPoolExecutor(num_cores()) as threads:
            pending = [
                threads.submit(lambda: self.summary),
                threads.submit(lambda: self.split_summary),
            ]
            list(threads.map(lambda pair: comparisons.of(*pair), pairs))
            for summary in pending:
                summary.result()

    def label(self, setting: Setting) -> str:
        """The model's name, with the layer and the data set where the run has several of them for
        this model.
        """
        same = [other for other in self.settings if other.model == setting.model]
        layer = [setting.layer] * (len({other.layer for other in same}) > 1)
        data = [f"({setting.data})"] * (len({other.data for other in same}) > 1)
        return " ".join([setting.model, *layer, *data])

    def network(self, model: str, data: str) -> str:
        """The model's name, with the data set where the run has several."""
        return f"{model} ({data})" if len(self.manifest.data) > 1 else model

    @cached_property
    def accuracies(self) -> Mapping[tuple[str, str], summaries.Accuracy]:
        """{(model, data set): how often the model names its images as labelled}, where labels are
        explained.
        """
        rows = self.records.of_images.drop_duplicates(["model", "data", *ROW])
        made = {}
        for place, group in rows.groupby(["model", "data"], sort=False, observed=True):
            model, data = map(str, place)
            about = self.metadata.model(model)
            images = about.images.get(data, ImagesEntry())
            left_out = images.chosen - images.kept if images.others else 0
            found = summaries.accuracy(
                group, left_out, len(about.classes), about.published_accuracy
            )
            if found is not None and self.config.target in (None, "label", "each_label"):
                made[model, data] = found
        return made

    def ranks(self, setting: Setting) -> bool:
        """Whether the values of a setting rank methods: not those of a model with random weights,
        nor of one that names its images no better than chance.
        """
        found = self.accuracies.get((setting.model, setting.data))
        return not self.metadata.model(setting.model).random_weights and not (
            found and found.is_chance
        )

    def class_name(self, model: str, index: int) -> str:
        """What a model's class is called; its index where nobody says."""
        names = self.metadata.model(model).classes
        return str(names[index] if 0 <= index < len(names) else index)


def with_marks(manifest: Manifest, records: Records) -> Manifest:
    """The manifest, in which users' methods win by construction, too, such as one of the suite's
    that does, scaled.

    That is so of errors that some method of the suite makes 0 by its formula, where the user's mean
    is below 1 % of the best other one's of the suite. Networks on which these coincide don't count.
    """
    metadata = Metadata(manifest)
    methods = manifest.methods
    own = [
        name for name, method in methods.items() if str(method.target).startswith("axiom_bench.")
    ]
    errors = {metric for name in own for metric in methods[name].wins_by_construction}
    marked: dict[str, MethodEntry] = {}
    for metric in sorted(errors & {*records.metrics}) if len(own) < len(methods) else ():
        rows = records.frame([metric])
        means = (
            rows[rows["status"] == OK]
            .groupby([*PLACE, "method"], observed=True)["value"]
            .mean()
            .unstack("method")
        )
        others = [name for name in own if name in means and name not in metadata.controls]
        others = [name for name in others if name not in metadata.by_construction(metric)]
        of_each = means[means[others].min(axis=1) > COINCIDING].mean()
        for name in methods:
            if name not in own and of_each.get(name, np.inf) < SHARE_MARKED * of_each[others].min():
                method = marked.get(name, methods[name])
                wins = [*method.wins_by_construction, metric]
                marked[name] = method.model_copy(update={"wins_by_construction": wins})
    return manifest.model_copy(update={"methods": methods | marked}) if marked else manifest


def in_order(records: Records, manifest: Manifest) -> Records:
    """Names in the manifest's order first, then those that it doesn't list; names without a row are
    dropped. Status "ok" has a number: a row that says so without one must not vanish from n in
    silence.
    """
    orders = _orders(manifest)
    keys = records.keys.assign(
        **{name: _category(records.keys[name], orders.get(name, [])) for name in PLACE}
    )
    words = {
        name: NOT_A_WORD.sub("_", name)[:MAX_STATUS] or "_" for name in records.statuses
    }  # "ok:39 zero_map:1"
    names = list(dict.fromkeys([*words.values(), NOT_FINITE]))
    code = np.array([names.index(word) for word in words.values()], dtype=np.int16)
    blocks = {}
    for name in _order(
        [name for name, block in records.blocks.items() if len(block.keys)], orders["metric"]
    ):
        block = records.blocks[name]
        broken = (block.statuses == records.ok) & ~np.isfinite(block.values)
        status_codes = np.where(broken, np.int16(names.index(NOT_FINITE)), code[block.statuses])
        blocks[name] = replace(block, statuses=status_codes)
    methods, blocks = _coded_anew("methods", records.methods, blocks, orders["method"])
    statuses, blocks = _coded_anew("statuses", names, blocks, [OK])
    return Records(keys, records.first_ok, blocks, methods, statuses)


def _coded_anew(
    column: str, names: Sequence[str], blocks: Mapping[str, Block], order: Iterable[str]
) -> tuple[tuple[str, ...], dict[str, Block]]:
    """The names of a column's codes that have rows, in order, and the blocks with codes of
    these.
    """
    used = np.zeros(len(names), dtype=np.int64)
    for block in blocks.values():
        used += np.bincount(getattr(block, column), minlength=len(names))
    ordered = _order([name for name, count in zip(names, used, strict=True) if count], order)
    code = np.array(
        [ordered.index(name) if name in ordered else -1 for name in names], dtype=np.int16
    )
    return tuple(ordered), {
        name: replace(block, **{column: code[getattr(block, column)]})
        for name, block in blocks.items()
    }


def _orders(manifest: Manifest) -> dict[str, list[str]]:
    """Return the manifest's order of the names of each column. Layers are in the order in which the
    network runs them; for a model without depths, in the order of the run.
    """
    layers: list[str] = []
    for model in manifest.models.values():
        layers += model.layers_by_depth
    return {
        "model": list(manifest.models),
        "layer": layers,
        "data": list(manifest.data),
        "method": [METHOD_FREE, *manifest.methods],
        "metric": list(manifest.metrics),
    }


def _category(names: pd.Series, order: Iterable[str]) -> pd.Series:
    names = names.astype("category").cat.remove_unused_categories()
    return names.cat.set_categories(_order(map(str, names.cat.categories), order), ordered=True)


def _order(present: Iterable[str], order: Iterable[str]) -> list[str]:
    """The names that are there: those of the order, then the others, features.9 before features.12:
    the digits of a name count as numbers.
    """

    def natural(name: str) -> list[tuple[int, str]]:
        return [
            (int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", name)
        ]

    names = set(present)
    listed = [name for name in dict.fromkeys(order) if name in names]
    return [*listed, *sorted(names - set(listed), key=natural)]


def milliseconds(run: RunFolder, setting: Setting) -> pd.Series:
    """ms an image by method, beyond the trace; the trace itself as TRACE. Empty where nothing was
    timed.
    """
    rows = rows_at(run.runtime, setting)
    rows = rows[rows["step"].isin(["trace", "method"])]
    names = rows["method"].astype(str).where(rows["step"] == "method", TRACE)
    return rows.groupby(names)["milliseconds_per_image"].median()


def whole_set_problems(run: RunFolder) -> Iterator[str]:
    """One sentence for each metric whose values of the whole data set aren't those of these
    records.

    That is so if the records of several runs were combined, of other images or other methods. The
    report computes none of these values: the run does.
    """
    stored_metrics = set(run.whole_set["metric"])
    for metric in run.metrics:
        if metric in stored_metrics and _differs(
            run, metric, run.whole_set[run.whole_set["metric"] == metric]
        ):
            yield (
                f"{run.metadata.value(metric).title}: values of the whole data set were computed "
                f"from other images or methods than the records hold; {AGAIN}."
            )


def _differs(run: RunFolder, metric: str, stored: pd.DataFrame) -> bool:
    """Whether a value is stored twice, stands on another number of images, or has other common
    images than the rest.
    """
    if stored.duplicated(NAMES).any():
        return True
    compared = stored[stored["common_images"] > 0]
    if (compared.groupby(NAMES[:3])["common_images"].nunique() > 1).any():
        return True
    single = run.records.frame([run.image_value_of[metric]])
    single = single[single["image_id"] != WHOLE_SET].assign(metric=metric)
    single = single[single["status"] == OK]
    images = (
        single.assign(image=image_numbers(single["image_id"]))
        .groupby(NAMES, observed=True)["image"]
        .nunique()
    )
    counted = pd.Series(
        stored["images"].to_numpy(), index=pd.MultiIndex.from_frame(stored[NAMES].astype(object))
    )
    expected = counted.reindex(images.index.map(lambda key: tuple(map(str, key))))
    return bool((expected.to_numpy() != images.to_numpy())[expected.notna().to_numpy()].any())
