"""A run folder whose every text is an attack, and the same run with plain names: both must make the
same report.
"""

from __future__ import annotations

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
WITNESS = Path(tempfile.gettempdir(), "axiom-bench-of-a-command")
SHELL = f"__import__('os').system('touch {WITNESS}')"
CALLED = {  # entries that name code in a configuration: a loader of plug-ins would call them
    "_target_": "os.getcwd",
    "forwards": SHELL,
    **dict.fromkeys(("values", "aggregate", "queries"), "subprocess.getoutput"),
}


class Names:
    """Texts of a run: plain ones, or every attack in turn, each text unlike all others."""

    def __init__(self, hostile: bool) -> None:
        self.hostile = hostile
        self.given: list[str] = []

    def __call__(self, what: str) -> str:
        place = len(self.given) % len(ATTACKS)
        plain = (
            f"{what}{chr(ord('a') + len(self.given) // 26)}{chr(ord('a') + len(self.given) % 26)}"
        )
        text = (
            f"{ATTACKS[place]}{plain}{''.join(ATTACKS[place + 1 :] + ATTACKS[:place])}"
            if self.hostile
            else plain
        )
        self.given.append(text)
        return text


def letters(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9]", "", text)


def write(folder: Path, name: Names) -> Path:
    """Two networks at one layer, three methods, three metrics and a value of the layer, six images
    of three classes.
    """
    models = [name("model0"), name("model1")]
    layer = name("layer")
    data = name("data")
    methods = [name(f"method{i}") for i in range(3)]
    metrics = [name(f"metric{i}") for i in range(3)]
    of_layer = name("oflayer")
    images = [name(f"image{i}") for i in range(IMAGES)]
    classes = [name(f"class{i}") for i in range(CLASSES)]
    status = name("status")
    curve = name("curve")
    place = {"layer": layer, "data": data}
    experiment = name("experiment")
    measured = [*((method, metric) for metric in metrics for method in methods), ("-", of_layer)]
    records = [
        {**place, "experiment": experiment, "model": model, "method": method, "metric": metric, "image_id": image,
         "target_class": i % CLASSES, "predicted_class": 0, "value": 0.1 * (i + 2 * m) + 0.05, "status": "ok"}
        for model in models
        for i, image in enumerate(images)
        for m, (method, metric) in enumerate(measured)
    ]  # fmt: skip
    records[4] |= {"value": float("nan"), "status": status}
    jobs = [write_records(folder, pd.DataFrame(records))]
    times = runtime_of(dict.fromkeys(models, (layer,)), methods).assign(
        data=data, device=name("device")
    )
    store.write(folder / "runtime/one.parquet", times, schema=None)
    points = {"target_class": 0, "curve": curve, "points": [0.1, 0.5, 0.7], "status": "ok"}
    curves = [
        {**points, "image_id": image, "method": method} for image in images for method in methods
    ]
    jobs.append(write_curves(folder, {"model": models[0], **place}, pd.DataFrame(curves), 1))
    entries = [
        make_entry("first", "one", **place, model=model, image_id=image, target_class=i % CLASSES, methods=methods,
                   target_name=classes[i % CLASSES], predicted_name=classes[0])
        for model in models
        for i, image in enumerate(images)
    ]  # fmt: skip
    store.write(folder / "gallery/one.parquet", pa.Table.from_pylist(entries, GALLERY), schema=None)
    shown = {"image_ids": images[:2], "class_names": classes[:2], "layer": layer}
    write_arrays(folder / "pictures/one.npz", pictures_of(models[0], methods, n=2) | shown)
    about = {
        "models": models,
        "layer": layer,
        "data": data,
        "methods": methods,
        "metrics": [*metrics, of_layer],
    }
    content = {
        **manifest(name, about, curve, classes, images),
        "jobs": jobs,
        "curves": jobs[1].pop("curves"),
    }
    write_entries(folder, content)
    return folder


def manifest(
    name: Names, about: Any, curve: str, classes: list[str], images: list[str]
) -> dict[str, Any]:
    metrics = about["metrics"]
    methods = about["methods"]
    models = about["models"]
    figures = {
        "perturbed": methods[0],
        "pair": methods[:2],
        "plane": metrics[:2],
        "over_models": [metrics[3]],
        "by_depth": [metrics[3]],
        "numbers": {metrics[0]: name("number")},
        "formats": ["png", "svg"],
    }

    def described(kind: str) -> dict[str, Any]:
        cited = {"text": name(f"{kind} cited"), "title": name(f"{kind} work")}
        cited["url"] = "javascript:window.attacked=1" if name.hostile else ""
        return {
            **{of: name(f"{kind} {of}") for of in ("title", "description", "note", "reference")},
            "cited": cited,
            "params": {name("parameter"): name("argument")},
            "definition": name("definition"),
            "deviation": name("deviation"),
            **CALLED,
        }

    def measure(i: int, metric: str) -> dict[str, Any]:
        of = {"better": "none", "of": "layer"} if i == 3 else {"better": "lower", "of": "method"}
        return {
            **described("metric"),
            "metric": metric,
            "unit": name("unit"),
            "tolerance": "mean:1%",
            **of,
        }

    def network() -> dict[str, Any]:
        place = {"layers": [about["layer"]], "layer": about["layer"]}
        return {
            **place,
            "weights": name("weights"),
            "weights_sha256": name("sha256"),
            "classes": classes,
        }

    report = {"headline": metrics[:2], "columns": metrics[:3], "figures": figures}
    # a short one is there by chance
    axis = {
        "title": name("axis title"),
        "x": name("abscissa"),
        "y": name("ordinate"),
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
        "methods": {
            method: {**described("method"), "on_score_scale": True, "control": i == 2}
            for i, method in enumerate(methods)
        },
        "metrics": {metric: measure(i, metric) for i, metric in enumerate(metrics)},
        "models": {model: network() for model in models},
        "data": {
            about["data"]: {
                "ids": images,
                "fingerprint": name("fingerprint"),
                "notes": [name("data note")],
            }
        },
        "seconds": {name("job"): {name("stage"): 1.0}},
        "failures": [{"job": name("failed"), "message": name("message")}],
        "axes": {curve: {**axis, "better": "higher", "at": [0.0, 0.5, 1.0]}},
        "records": [RECORD],
        "runtime": ["runtime/one.parquet"],
        "gallery": ["gallery/one.parquet"],
        "pictures": ["pictures/one.npz"],
    }


@pytest.fixture(scope="session")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, list[str]]]:
    """{"hostile", "plain": (a run folder with its page, tables and figures, all texts in it)}. Read
    only.
    """
    made = {}
    for kind in ("plain", "hostile"):
        name = Names(kind == "hostile")
        folder = write(tmp_path_factory.mktemp(kind) / "run", name)
        run = RunFolder.read(folder)
        text = page(
            run, write_tables(run, folder / "tables"), save_figures(run), gallery.section(run)
        )
        (folder / "report.html").write_text(text, encoding="utf-8")
        made[kind] = (folder, name.given)
    return made


@pytest.fixture
def hostile_run(tmp_path: Path) -> Path:
    """A run folder of attacks without a report, to be changed."""
    return write(tmp_path / "run", Names(hostile=True))
