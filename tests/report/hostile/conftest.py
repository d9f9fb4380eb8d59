"""Two run folders that must make the same report: one full of attacks, one with plain names.

Every text of the first one, from a method's name to a note about the data, is an attack.
"""

from __future__ import annotations

import os
import re
import tempfile
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pytest

from axiom_bench.records import store
from axiom_bench.records.store import GALLERY, write_arrays
from axiom_bench.report import gallery
from axiom_bench.report.writing import page, save_figures, write_tables
from axiom_bench.statistics.run_folder import RunFolder
from tests.made_runs import (
    RECORD,
    pictures_of,
    runtime_of,
    write_curves,
    write_entries,
    write_records,
)
from tests.report.gallery.conftest import make_entry

ATTACKS = (
    "</script><script>window.attacked=1</script>",
    "\"'><img src=https://attacker.invalid/x onerror=window.attacked=1>",
    "--></style></title></textarea><svg onload=window.attacked=1>",
    '</svg><a href="javascript:window.attacked=1">x</a>{{7*7}}{% raw %}${7*7}',
    "\u2028\u2029\x1b]0;attacked\x07\x1b[2J\u202e\x00\x01\r\t&lt;b&gt;&amp;",
    '=HYPERLINK("https://attacker.invalid")|`x`[x](javascript:window.attacked=1)',
    "url(https://attacker.invalid/x);}*{background:url(//attacker.invalid)} expression(x)",
    "x}\\input{/etc/passwd}\\write18{touch attacked}$\\frac{^_~%#&",
)
IMAGES, CLASSES = 6, 3
# No other process has the file, so an earlier session can't have left it.
WITNESS = Path(tempfile.gettempdir(), f"axiom-bench-of-a-command-{os.getpid()}")
SHELL = f"__import__('os').system('touch {WITNESS}')"
CALLED = {  # entries that name code in a configuration: a loader of plug-ins would call them
    "_target_": "os.getcwd",
    "forwards": SHELL,
    **dict.fromkeys(("values", "aggregate", "queries"), "subprocess.getoutput"),
}


class Names:
    """Makes the texts of a run, each different: plain ones, or one that contains every attack."""

    def __init__(self, is_hostile: bool) -> None:
        self.is_hostile = is_hostile
        self.texts: list[str] = []

    def __call__(self, kind: str) -> str:
        number = len(self.texts)
        first_letter = chr(ord("a") + number // 26)
        second_letter = chr(ord("a") + number % 26)
        text = f"{kind}{first_letter}{second_letter}"
        if self.is_hostile:
            start = number % len(ATTACKS)  # each attack comes first in some texts
            others = ATTACKS[start + 1 :] + ATTACKS[:start]
            text = f"{ATTACKS[start]}{text}{''.join(others)}"
        self.texts.append(text)
        return text


def letters(text: str) -> str:
    """Return only the letters and digits of `text`."""
    return re.sub(r"[^A-Za-z0-9]", "", text)


def write(folder: Path, name: Names) -> Path:
    """Write a run of two networks at one layer, with three methods and six images of three classes.

    It has three metrics of methods and one value of the layer. The order of the calls of `name`
    decides each text.
    """
    models = [name("model0"), name("model1")]
    layer = name("layer")
    data = name("data")
    methods = [name(f"method{i}") for i in range(3)]
    metrics = [name(f"metric{i}") for i in range(3)]
    layer_metric = name("oflayer")
    images = [name(f"image{i}") for i in range(IMAGES)]
    classes = [name(f"class{i}") for i in range(CLASSES)]
    status = name("status")
    curve = name("curve")
    experiment = name("experiment")

    measured = [(method, metric) for metric in metrics for method in methods]
    measured.append(("-", layer_metric))
    records = []
    for model in models:
        for i, image in enumerate(images):
            for m, (method, metric) in enumerate(measured):
                record = {
                    "layer": layer,
                    "data": data,
                    "experiment": experiment,
                    "model": model,
                    "method": method,
                    "metric": metric,
                    "image_id": image,
                    "target_class": i % CLASSES,
                    "predicted_class": 0,
                    "value": 0.1 * (i + 2 * m) + 0.05,
                    "status": "ok",
                }
                records.append(record)
    records[4]["value"] = float("nan")
    records[4]["status"] = status
    records_job = write_records(folder, pd.DataFrame(records))

    times = runtime_of(dict.fromkeys(models, (layer,)), methods)
    times = times.assign(data=data, device=name("device"))
    store.write(folder / "runtime/one.parquet", times, schema=None)

    points = {"target_class": 0, "curve": curve, "points": [0.1, 0.5, 0.7], "status": "ok"}
    curves = [
        {**points, "image_id": image, "method": method} for image in images for method in methods
    ]
    place = {"model": models[0], "layer": layer, "data": data}
    curves_job = write_curves(folder, place, pd.DataFrame(curves), 1)

    entries = []
    for model in models:
        for i, image in enumerate(images):
            entry = make_entry(
                "first",
                "one",
                layer=layer,
                data=data,
                model=model,
                image_id=image,
                target_class=i % CLASSES,
                methods=methods,
                target_name=classes[i % CLASSES],
                predicted_name=classes[0],
            )
            entries.append(entry)
    store.write(folder / "gallery/one.parquet", pa.Table.from_pylist(entries, GALLERY), schema=None)

    pictures = pictures_of(models[0], methods, n=2)
    pictures |= {"image_ids": images[:2], "class_names": classes[:2], "layer": layer}
    write_arrays(folder / "pictures/one.npz", pictures)

    content = manifest(
        name,
        models=models,
        layer=layer,
        data=data,
        methods=methods,
        metrics=[*metrics, layer_metric],
        curve=curve,
        classes=classes,
        images=images,
    )
    content["curves"] = curves_job.pop("curves")
    content["jobs"] = [records_job, curves_job]
    write_entries(folder, content)
    return folder


def manifest(
    name: Names,
    *,
    models: list[str],
    layer: str,
    data: str,
    methods: list[str],
    metrics: list[str],
    curve: str,
    classes: list[str],
    images: list[str],
) -> dict[str, Any]:
    """Return the manifest's entries. The last of `metrics` is the value of the layer."""
    figures = {
        "perturbed": methods[0],
        "pair": methods[:2],
        "plane": metrics[:2],
        "over_models": [metrics[3]],
        "by_depth": [metrics[3]],
        "numbers": {metrics[0]: name("number")},
        "formats": ["png", "svg"],
    }

    def description(kind: str) -> dict[str, Any]:
        cited = {"text": name(f"{kind} cited"), "title": name(f"{kind} work")}
        cited["url"] = "javascript:window.attacked=1" if name.is_hostile else ""
        texts = {
            key: name(f"{kind} {key}") for key in ("title", "description", "note", "reference")
        }
        return {
            **texts,
            "cited": cited,
            "params": {name("parameter"): name("argument")},
            "definition": name("definition"),
            "deviation": name("deviation"),
            **CALLED,
        }

    def metric_entry(metric: str) -> dict[str, Any]:
        is_of_layer = metric == metrics[3]
        return {
            **description("metric"),
            "metric": metric,
            "unit": name("unit"),
            "tolerance": "mean:1%",
            "better": "none" if is_of_layer else "lower",
            "of": "layer" if is_of_layer else "method",
        }

    def method_entry(method: str) -> dict[str, Any]:
        is_control = method == methods[2]
        return {**description("method"), "on_score_scale": True, "control": is_control}

    def network_entry() -> dict[str, Any]:
        return {
            "layers": [layer],
            "layer": layer,
            "weights": name("weights"),
            "weights_sha256": name("sha256"),
            "classes": classes,
        }

    report = {"headline": metrics[:2], "columns": metrics[:3], "figures": figures}
    # The names of the axes are long: a short text would be in the page by chance.
    axis = {
        "title": name("axis title"),
        "x": name("abscissa"),
        "y": name("ordinate"),
        "better": "higher",
        "at": [0.0, 0.5, 1.0],
    }
    return {
        **{key: name(key) for key in ("experiment", "run", "created", "reload", "device")},
        "overrides": [name("override")],
        "git_commit": name("commit"),
        "precision": {"trunk": name("trunk"), "head": name("head")},
        "versions": {"torch": name("version"), name("library"): "1"},
        "config": {
            "target": name("target"),
            name("key"): name("value"),
            "report": report,
            "method": dict.fromkeys(methods, CALLED),
            "metric": dict.fromkeys(metrics, CALLED),
        },
        "methods": {method: method_entry(method) for method in methods},
        "metrics": {metric: metric_entry(metric) for metric in metrics},
        "models": {model: network_entry() for model in models},
        "data": {
            data: {
                "ids": images,
                "fingerprint": name("fingerprint"),
                "notes": [name("data note")],
            }
        },
        "seconds": {name("job"): {name("stage"): 1.0}},
        "failures": [{"job": name("failed"), "message": name("message")}],
        "axes": {curve: axis},
        "records": [RECORD],
        "runtime": ["runtime/one.parquet"],
        "gallery": ["gallery/one.parquet"],
        "pictures": ["pictures/one.npz"],
    }


def write_report(folder: Path) -> None:
    """Write the page, the tables and the figures of a run folder."""
    run = RunFolder.read(folder)
    tables = write_tables(run, folder / "tables")
    figures = save_figures(run)
    text = page(run, tables, figures, gallery.section(run))
    (folder / "report.html").write_text(text, encoding="utf-8")


@pytest.fixture(scope="session")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, list[str]]]:
    """The hostile and the plain run folder, with page, tables and figures, and all their texts.

    No test changes them.
    """
    folder_and_texts = {}
    for kind in ("plain", "hostile"):
        name = Names(kind == "hostile")
        folder = write(tmp_path_factory.mktemp(kind) / "run", name)
        write_report(folder)
        folder_and_texts[kind] = (folder, name.texts)
    return folder_and_texts


@pytest.fixture
def hostile_run(tmp_path: Path) -> Path:
    """The folder of a hostile run without a report, which the test may change."""
    return write(tmp_path / "run", Names(is_hostile=True))
