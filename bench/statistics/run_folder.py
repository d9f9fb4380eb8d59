"""A finished run as tables, figures and the gate read it: only the manifest and the records that it
lists.

A setting is one model, cut at one layer, on one data set.
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
from axiom_bench.records import files, reading
from axiom_bench.records.by_metric import (
    NAMES,
    PLACE,
    Block,
    Matrix,
    Records,
    RowLayout,
    compared_columns,
    image_numbers,
    layouts,
    matrix,
)
from axiom_bench.records.entries import ConfigEntry, ImagesEntry, Manifest, MethodEntry
from axiom_bench.statistics import summary as summaries
from axiom_bench.statistics.bootstrap import FEWEST_NETWORKS, LEVEL, OverNetworks, over_networks
from axiom_bench.statistics.chosen import CHOICE_FILE, Choice, choice_of
from axiom_bench.statistics.comparison import Comparisons
from axiom_bench.statistics.labels import Metadata, Setting, Value, rows_at
from axiom_bench.statistics.summary import (
    SPLIT_KEYS,
    SPLITS,
    summarise,
    with_common_values,
    with_intervals,
)

# These replace a method's name: in a value of the layer, and in the time of the trace.
METHOD_FREE = LAYER
TRACE = LAYER
MANY = 1_000_000  # rows from which the comparisons of a run are worth threads
NOT_A_WORD = re.compile(r"\W", re.ASCII)  # what a status must not contain
MAX_STATUS = 100  # characters of a status
RUN_AGAIN = "run the same command again to compute them"
ROW = ["image_id", "target_class"]
CLASS = "class"  # the unit of a value that names a class: such values are counted, not averaged
# A user's method wins by construction if its error is below this share of the best other method's.
SHARE_MARKED = 0.01
# The least error of a network on which methods differ. If they coincide by algebra, errors are only
# rounding.
COINCIDING = 1e-4


@dataclass(frozen=True)
class View:
    """The way in which a report shows a run. By default it shows all of the run."""

    level: float = LEVEL
    """The level of all tests. The confidence of all intervals is 1 - level."""
    left_out: tuple[str, ...] = ()
    """The methods that the report leaves out. The manifest of the run doesn't have them."""
    words: tuple[str, ...] = ()
    """The settings of the `axiom-bench report` command that drew the page."""


@dataclass(frozen=True)
class RunFolder:
    """A run, read once. Everything that is computed from it is kept, because tables, charts and the
    page need the same summaries and comparisons.
    """

    path: Path
    manifest: Manifest
    """The parsed manifest.json, with other report settings in place of its own."""
    records: Records
    """The rows of numbers, with names in the manifest's order."""
    class_records: Records
    """The rows whose value is the index of a class."""
    runtime: pd.DataFrame
    """The run times in columns.RUNTIME_COLUMNS."""
    whole_set: pd.DataFrame
    """The values of whole data sets with their bootstrap replicates, see
    `reading.WHOLE_SET_COLUMNS`.
    """
    view: View = View()
    """The way in which a report shows the run."""

    @classmethod
    def read(cls, path: Path) -> RunFolder:
        """Read a run folder. Raise BenchError if the manifest, or a file that it lists, is missing
        or damaged.
        """
        return cls.of(Path(path), reading.read_manifest(Path(path)))

    @classmethod
    def of_suite(cls, path: Path) -> RunFolder:
        """Read the published values of a suite's part: all methods of the folder, unless its
        manifest lists the published ones among others. Raise BenchError like `read`.
        """
        manifest = reading.read_manifest(path)
        if manifest.published is None:
            manifest = manifest.model_copy(update={"published": list(manifest.methods)})
        return cls.of(path, manifest)

    @classmethod
    def of(cls, path: Path, manifest: Manifest, view: View | None = None) -> RunFolder:
        """Read the files that this manifest lists, even if the folder has another manifest by now.
        Raise BenchError like `read`.

        Args:
            path: The run folder.
            manifest: The manifest. Only methods that its jobs list are read.
            view: The way in which a report shows the run.
        """
        classes = [name for name, metric in manifest.metrics.items() if metric.unit == CLASS]
        records, class_records = reading.read_by_metric(path, manifest, classes)
        choice = _choice_in(path)
        records = in_order(records, manifest, choice)
        manifest = with_marks(manifest, records)
        runtime = reading.read_runtime(path, manifest)
        orders = _orders(manifest, choice)
        categories = {
            name: _category(runtime[name], orders[name]) for name in {*orders} & {*runtime}
        }
        run = cls(
            path=path,
            manifest=manifest,
            records=records,
            class_records=in_order(class_records, manifest, choice),
            runtime=runtime.assign(**categories),
            whole_set=_in_order_of_methods(reading.read_whole_set(path, manifest), manifest),
            view=view or View(),
        )
        if run.view.left_out:
            run = replace(run, whole_set=with_own_common_rows(run))
        return run

    def at_level(self, level: float) -> RunFolder:
        """Return the run with tests and intervals of another level."""
        if level == self.level:
            return self
        return replace(self, view=replace(self.view, level=level))

    @property
    def level(self) -> float:
        """The level of all tests."""
        return self.view.level

    @cached_property
    def metadata(self) -> Metadata:
        """The manifest's facts about metrics, methods and models."""
        return Metadata(self.manifest)

    @cached_property
    def choice(self) -> Choice | None:
        """The answer of `axiom-bench choose` that this run was measured for.

        None if there is none, or none that can be read.
        """
        return _choice_in(self.path)

    @property
    def config(self) -> ConfigEntry:
        """The configuration of the run, or, for a sweep, of its first job."""
        return self.manifest.config

    @cached_property
    def summary_without_intervals(self) -> pd.DataFrame:
        """One row per setting, method and metric: see `summarise`, `with_common_values` and
        `with_stored_values`.

        Pages that show no interval of a summary use it, because the bootstrap takes most of the
        time of `summary`.
        """
        summary = summarise(self.records, image_value_of=self.image_value_of)
        summary = with_common_values(summary, self.records, self.layouts)
        return summaries.with_stored_values(summary, self.whole_set)

    @cached_property
    def summary(self) -> pd.DataFrame:
        """The rows of `summary_without_intervals` with intervals, see `with_intervals`, and with a
        column that says whether a method wins by construction.
        """
        summary = with_intervals(
            self.summary_without_intervals,
            self.records,
            self.layouts,
            self.metadata,
            self.level,
        )
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
        """Return the values of images of one metric in one setting; None if there are none."""
        return matrix(self.records, self.layouts.get(setting), metric)

    @cached_property
    def split_summary(self) -> pd.DataFrame:
        """The summary of images whose class is predicted correctly, wrongly, or unknown, with the
        key `split`.
        """
        split = summaries.classified(self.records.keys)
        layouts_of_split = {}
        all_layouts: dict[tuple[str, ...], RowLayout] = {}
        for name in SPLITS:
            layouts_of_split[name] = layouts(self.records, np.asarray(split == name))
            for place, layout in layouts_of_split[name].items():
                all_layouts[*place, name] = layout
        summary = summarise(self.records, SPLIT_KEYS)
        summary = with_common_values(summary, self.records, all_layouts, SPLIT_KEYS)
        parts = []
        for name in SPLITS:
            rows = summary[summary["split"] == name]
            part = with_intervals(
                rows, self.records, layouts_of_split[name], self.metadata, self.level
            )
            parts.append(part)
        return pd.concat(parts).sort_index()

    @cached_property
    def metrics(self) -> tuple[str, ...]:
        """The names of all values in the records, in the manifest's order."""
        return self.records.metrics

    @cached_property
    def methods(self) -> tuple[str, ...]:
        """The names of all methods in the records, in the manifest's order."""
        return tuple(name for name in self.records.methods if name != METHOD_FREE)

    @cached_property
    def image_value_of(self) -> Mapping[str, str]:
        """{value of the whole data set: the value of images that it was computed from}."""
        records = self.records
        owner = {name: self.metadata.metric_of(name) for name in self.metrics}
        first = {owner[name]: name for name in reversed(records.metrics_with_images())}
        image_values = {}
        for name, block in records.blocks.items():
            if records.is_whole_set[block.keys].any():
                image_values[name] = first.get(owner[name], name)
        return image_values

    @cached_property
    def settings(self) -> tuple[Setting, ...]:
        """Every model, layer and data set with records, with layers in the manifest's order."""
        columns = list(Setting._fields)
        places = self.records.keys[columns].drop_duplicates().sort_values(columns)
        return tuple(Setting(*map(str, row)) for row in places.itertuples(index=False))

    @cached_property
    def trainings(self) -> tuple[tuple[Setting, ...], ...]:
        """The settings of three or more networks of one architecture that differ only in their
        weights.
        """
        models = {job.job: job.config.model for job in self.manifest.jobs}
        groups: dict[str, list[Setting]] = {}
        for setting in self.settings:
            model = models.get(f"{setting.model} at {setting.layer} on {setting.data}", {})
            if model.get("architecture") is None:
                continue
            names = ("source", "architecture", "kwargs", "output")
            built = [str(model.get(name)) for name in names]
            key = " ".join([*built, setting.layer, setting.data])
            groups.setdefault(key, []).append(setting)
        return tuple(tuple(group) for group in groups.values() if len(group) >= FEWEST_NETWORKS)

    def over_networks(self, settings: Sequence[Setting], value: Value) -> dict[str, OverNetworks]:
        """Return {method: its statistics over the networks of these settings}, for methods that
        have values in each of them.
        """
        rows = self.records.rows([value.name])
        ok_rows = rows[rows["status"] == OK]
        rows = pd.concat([rows_at(ok_rows, setting) for setting in settings])
        rows = rows.drop_duplicates([*ROW, "model", "method"], keep="last")
        rows = rows.astype({"image_id": object})
        models = [setting.model for setting in settings]
        statistics: dict[str, OverNetworks] = {}
        for method, rows_of_method in rows.groupby("method", observed=True):
            table = rows_of_method.pivot(index=ROW, columns="model", values="value")
            table = table.reindex(columns=models)
            if table.notna().any().all():
                images = image_numbers(table.index.get_level_values(0))
                statistics[str(method)] = over_networks(
                    table.to_numpy(), images, value.lead, self.level
                )
        return statistics

    @cached_property
    def comparisons(self) -> Comparisons:
        """The comparisons of all methods by a metric in a setting."""
        return Comparisons(
            self.records,
            self.whole_set,
            self.layouts,
            self.metadata,
            frozenset(self.image_value_of),
            self.level,
        )

    def precompute(self) -> None:
        """Compute the summaries and comparisons of a large run with as many threads as there are
        cores.

        Sorting and products of matrices take most of the time, and other threads can run meanwhile.
        More threads within a product would only wait for each other.
        """
        if len(self.records) < MANY or not self.layouts:
            return
        comparisons = self.comparisons  # made once, before threads need it
        pairs = [(setting, metric) for setting in self.settings for metric in self.metrics]
        with threadpool_limits(1, "blas"), ThreadPoolExecutor(num_cores()) as threads:
            summary = threads.submit(lambda: self.summary)
            split_summary = threads.submit(lambda: self.split_summary)
            list(threads.map(lambda pair: comparisons.of(*pair), pairs))
            summary.result()
            split_summary.result()

    def label(self, setting: Setting) -> str:
        """Return the model's name, with the layer and the data set if the run has several of them
        for this model.
        """
        same_model = [other for other in self.settings if other.model == setting.model]
        parts = [setting.model]
        if len({other.layer for other in same_model}) > 1:
            parts.append(setting.layer)
        if len({other.data for other in same_model}) > 1:
            parts.append(f"({setting.data})")
        return " ".join(parts)

    def network(self, model: str, data: str) -> str:
        """Return the model's name, with the data set if the run has several."""
        return f"{model} ({data})" if len(self.manifest.data) > 1 else model

    def data_title(self, name: str) -> str:
        """Return the name of a data set, or "the folder NAME" if it has only its kind's name."""
        data = self.config.data
        root = data.get("root")
        if name != data.get("kind") or name not in ("folder", "arrays") or not root:
            return name
        path = Path(str(root))
        return f"the {'file' if path.suffix else 'folder'} {path.name or root}"

    @cached_property
    def accuracies(self) -> Mapping[tuple[str, str], summaries.Accuracy]:
        """{(model, data set): how often the model names its images as labelled}, if labels are
        explained.
        """
        rows = self.records.image_keys.drop_duplicates(["model", "data", *ROW])
        accuracies: dict[tuple[str, str], summaries.Accuracy] = {}
        for place, group in rows.groupby(["model", "data"], sort=False, observed=True):
            model, data = map(str, place)
            entry = self.metadata.model(model)
            images = entry.images.get(data, ImagesEntry())
            left_out = images.chosen - images.kept if images.others else 0
            accuracy = summaries.accuracy(
                group, left_out, len(entry.classes), entry.published_accuracy
            )
            if accuracy is not None and self.config.target in (None, "label", "each_label"):
                accuracies[model, data] = accuracy
        return accuracies

    def ranks_methods(self, setting: Setting) -> bool:
        """Return whether the values of a setting rank methods.

        Values of a model with random weights don't, and neither do those of a model that names its
        images no better than chance.
        """
        if self.metadata.model(setting.model).random_weights:
            return False
        accuracy = self.accuracies.get((setting.model, setting.data))
        return accuracy is None or not accuracy.is_chance

    def class_name(self, model: str, index: int) -> str:
        """Return the name of a model's class; its index if the name is unknown."""
        names = self.metadata.model(model).classes
        return str(names[index] if 0 <= index < len(names) else index)


def with_marks(manifest: Manifest, records: Records) -> Manifest:
    """Return the manifest, in which users' methods also win by construction if their errors are as
    small as those of a method that does. Otherwise such a method would lead every ranking.

    An example is a scaled copy of one of the suite's methods. Only errors count that some method of
    the suite makes 0 by its formula. A user's method is marked if its mean is below 1 % of the best
    other method's of the suite. Networks on which these methods coincide don't count.
    """
    metadata = Metadata(manifest)
    methods = manifest.methods
    suite_methods = [
        name for name, method in methods.items() if str(method.target).startswith("axiom_bench.")
    ]
    if len(suite_methods) == len(methods):
        return manifest
    errors: set[str] = set()
    for name in suite_methods:
        errors.update(methods[name].wins_by_construction)
    marked: dict[str, MethodEntry] = {}
    for metric in sorted(errors & {*records.metrics}):
        rows = records.frame([metric])
        ok_rows = rows[rows["status"] == OK]
        values_by_place = ok_rows.groupby([*PLACE, "method"], observed=True)["value"]
        means = values_by_place.mean().unstack("method")
        excluded = metadata.controls | metadata.by_construction(metric)
        others = [name for name in suite_methods if name in means and name not in excluded]
        # on networks where the suite's methods coincide, every error is rounding
        mean_of_method = means[means[others].min(axis=1) > COINCIDING].mean()
        limit = SHARE_MARKED * mean_of_method[others].min()
        for name in methods:
            if name not in suite_methods and mean_of_method.get(name, np.inf) < limit:
                method = marked.get(name, methods[name])
                wins = [*method.wins_by_construction, metric]
                marked[name] = method.model_copy(update={"wins_by_construction": wins})
    return manifest.model_copy(update={"methods": methods | marked}) if marked else manifest


def _choice_in(folder: Path) -> Choice | None:
    """Return the answer of `axiom-bench choose` that a folder has; None if it has none that can be
    read.
    """
    content = files.read_json_or_none(folder / CHOICE_FILE)
    return None if content is None else choice_of(content)


def in_order(records: Records, manifest: Manifest, choice: Choice | None = None) -> Records:
    """Return the records with the manifest's names first, in its order, and then other names. Names
    without a row are dropped. The layer of a choice is the first one.

    Status "ok" has a number. A row with this status and no number gets another status, so that the
    number of rows with a value says so.
    """
    orders = _orders(manifest, choice)
    places = {name: _category(records.keys[name], orders.get(name, [])) for name in PLACE}
    keys = records.keys.assign(**places)
    # summaries write statuses as "ok:39 zero_map:1"
    words = [NOT_A_WORD.sub("_", name)[:MAX_STATUS] or "_" for name in records.statuses]
    names = list(dict.fromkeys([*words, NOT_FINITE]))
    code = np.array([names.index(word) for word in words], dtype=np.int16)
    metrics = [name for name, block in records.blocks.items() if len(block.keys)]
    blocks = {}
    for name in _order(metrics, orders["metric"]):
        block = records.blocks[name]
        is_broken = (block.statuses == records.ok) & ~np.isfinite(block.values)
        status_codes = np.where(is_broken, np.int16(names.index(NOT_FINITE)), code[block.statuses])
        blocks[name] = replace(block, statuses=status_codes)
    methods, blocks = _with_new_codes("methods", records.methods, blocks, orders["method"])
    statuses, blocks = _with_new_codes("statuses", names, blocks, [OK])
    return Records(keys, records.first_ok, blocks, methods, statuses)


def _in_order_of_methods(whole_set: pd.DataFrame, manifest: Manifest) -> pd.DataFrame:
    """Return the values of whole data sets with the manifest's methods first, in its order."""
    order = list(manifest.methods)
    numbers = [order.index(name) if name in order else len(order) for name in whole_set["method"]]
    return whole_set.iloc[np.argsort(numbers, kind="stable")].reset_index(drop=True)


def _with_new_codes(
    column: str, names: Sequence[str], blocks: Mapping[str, Block], order: Iterable[str]
) -> tuple[tuple[str, ...], dict[str, Block]]:
    """Return (the names of a column's codes that have rows, in order, the blocks with the codes of
    these names). The column is "methods" or "statuses".
    """
    row_counts = np.zeros(len(names), dtype=np.int64)
    for block in blocks.values():
        row_counts += np.bincount(getattr(block, column), minlength=len(names))
    present = [name for name, count in zip(names, row_counts, strict=True) if count]
    ordered = _order(present, order)
    new_codes = [ordered.index(name) if name in ordered else -1 for name in names]
    code = np.array(new_codes, dtype=np.int16)
    new_blocks = {}
    for name, block in blocks.items():
        changes = {column: code[getattr(block, column)]}
        new_blocks[name] = replace(block, **changes)
    return tuple(ordered), new_blocks


def _orders(manifest: Manifest, choice: Choice | None) -> dict[str, list[str]]:
    """Return the manifest's order of the names of each column. Layers are in the order in which the
    network runs them, or, for a model without depths, in the order of the run. The layer of a
    choice is the first one.
    """
    layers = [] if choice is None else [choice.first_layer]
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
    """Return names as categories in the given order."""
    names = names.astype("category").cat.remove_unused_categories()
    ordered = _order(map(str, names.cat.categories), order)
    return names.cat.set_categories(ordered, ordered=True)


def _order(present: Iterable[str], order: Iterable[str]) -> list[str]:
    """Return the present names: first those of `order`, then the others sorted, with digits as
    numbers, so that features.9 comes before features.12.
    """

    def natural_key(name: str) -> list[tuple[int, str]]:
        parts = re.split(r"(\d+)", name)
        return [(int(part), "") if part.isdigit() else (-1, part) for part in parts]

    present_names = set(present)
    listed = [name for name in dict.fromkeys(order) if name in present_names]
    return [*listed, *sorted(present_names - set(listed), key=natural_key)]


def milliseconds(run: RunFolder, setting: Setting) -> pd.Series:
    """Return the milliseconds per image by method, beyond the trace; TRACE has the time of the
    trace itself. Empty if nothing was timed.
    """
    rows = rows_at(run.runtime, setting)
    rows = rows[rows["step"].isin(["trace", "method"])]
    names = rows["method"].astype(str).where(rows["step"] == "method", TRACE)
    return rows.groupby(names)["milliseconds_per_image"].median()


def with_own_common_rows(run: RunFolder) -> pd.DataFrame:
    """Return the values of whole data sets of a run whose report leaves methods out. Their common
    values are over the rows that all shown methods have, if the run stored such values.

    The run computed them over the rows that also the methods have that aren't shown. If each shown
    method has only rows that all of them have, its own value is the common one.
    """
    parts = [run.whole_set]
    for key, stored in run.whole_set.groupby([*PLACE, "metric"], sort=False):
        *place, metric = map(str, key)
        compared, num_rows = _common_rows(run, Setting(*place), metric)
        is_compared = stored["method"].isin(compared)
        has_only_common = bool((stored.loc[is_compared, "rows"] == num_rows).all())
        is_stored = bool((stored.loc[is_compared, "common_rows"] == num_rows).all())
        changed = stored.copy()
        if has_only_common and not is_stored:
            for name in ("value", "images", "rows", "replicates"):
                changed[f"common_{name}"] = stored[name].where(
                    is_compared, stored[f"common_{name}"]
                )
        elif has_only_common and is_compared.all():
            # the run drew them from the images of all methods
            changed["replicates"] = stored["common_replicates"]
        parts.append(changed)
    return pd.concat(parts[1:] or parts)[[*run.whole_set]].sort_index()


def _common_rows(run: RunFolder, setting: Setting, metric: str) -> tuple[tuple[str, ...], int]:
    """Return (the shown methods that are compared by a value of the whole data set, the number of
    rows that all of them have).
    """
    table = run.matrix(setting, run.image_value_of.get(metric, metric))
    if table is None:
        return (), 0
    columns, is_common = compared_columns(np.isfinite(table.values))
    return tuple(table.methods[column] for column in columns), int(is_common.sum())


def whole_set_problems(run: RunFolder) -> Iterator[str]:
    """Yield a sentence per metric whose values of the whole data set aren't those of these records.

    This happens if the records of several runs were combined, of other images or other methods. The
    report computes none of these values, only the run does.
    """
    stored_metrics = set(run.whole_set["metric"])
    for metric in run.metrics:
        if metric not in stored_metrics:
            continue
        stored = run.whole_set[run.whole_set["metric"] == metric]
        if _differs(run, metric, stored):
            yield (
                f"{run.metadata.value(metric).title}: values of the whole data set were computed "
                f"from other images or methods than the records hold; {RUN_AGAIN}."
            )
        elif run.view.left_out and _has_other_common_rows(run, stored):
            yield (
                f"{run.metadata.value(metric).title}: values of the whole data set are compared on "
                "the images that the methods have which the report leaves out, too. To compare "
                f'them on all images, run "method=[{",".join(run.methods)}]" with run=NAME.'
            )


def _has_other_common_rows(run: RunFolder, stored: pd.DataFrame) -> bool:
    """Return whether the common values of a metric are over other rows than those that all shown
    methods have.
    """
    for key, rows in stored.groupby([*PLACE, "metric"], sort=False):
        *place, metric = map(str, key)
        compared, num_rows = _common_rows(run, Setting(*place), metric)
        common_rows = rows.loc[rows["method"].isin(compared), "common_rows"]
        if (common_rows != num_rows).any():
            return True
    return False


def _differs(run: RunFolder, metric: str, stored: pd.DataFrame) -> bool:
    """Return whether a value is stored twice, was computed from another number of images, or has
    other common images than the rest.
    """
    if stored.duplicated(NAMES).any():
        return True
    compared = stored[stored["common_images"] > 0]
    if (compared.groupby(NAMES[:3])["common_images"].nunique() > 1).any():
        return True
    rows = run.records.frame([run.image_value_of[metric]])
    rows = rows[rows["image_id"] != WHOLE_SET].assign(metric=metric)
    rows = rows[rows["status"] == OK]
    rows = rows.assign(image=image_numbers(rows["image_id"]))
    images = rows.groupby(NAMES, observed=True)["image"].nunique()
    stored_names = pd.MultiIndex.from_frame(stored[NAMES].astype(object))
    stored_images = pd.Series(stored["images"].to_numpy(), index=stored_names)
    expected = stored_images.reindex(images.index.map(lambda key: tuple(map(str, key))))
    is_other = expected.to_numpy() != images.to_numpy()
    return bool(is_other[expected.notna().to_numpy()].any())
