"""What ran: models, data sets, methods, device and precision."""

from __future__ import annotations

from typing import Any

from axiom_bench.columns import UNKNOWN_CLASS, WHOLE_SET
from axiom_bench.report.numbers import share
from axiom_bench.report.page.section import Section
from axiom_bench.report.page.templating import render
from axiom_bench.report.run_folder import RunFolder
from axiom_bench.report.statistics.summary import classified


def section(run: RunFolder) -> Section:
    """Models and data sets as tables, the rest as a sentence."""
    body = render(
        "ran.html.j2",
        models=_models(run),
        data=_data(run),
        methods=[run.method_title(name) for name in run.manifest.get("methods") or ()],
        device=run.manifest.get("device"),
        precision=precision_text(run.manifest.get("precision")),
    )
    return Section("ran", "Models and data", body)


def _models(run: RunFolder) -> list[dict[str, str]]:
    return [
        {
            "name": name,
            "layers": ", ".join(model.get("layers") or [model.get("layer", "")]),
            "weights": str(model.get("weights", "")),
            "sha256": str(model.get("weights_sha256") or "")[:12],
            "images": _kept(run, name),
            "correct": _correct(run, name),
        }
        for name, model in (run.manifest.get("models") or {}).items()
    ]


def _kept(run: RunFolder, model: str) -> str:
    """How many images the model explains: "108", or "97 of 108" where others are left out; of each data set."""
    counts = run.images(model).values()
    return ", ".join(
        f"{count['kept']:,} of {count['chosen']:,}" if count["others"] else f"{count['kept']:,}" for count in counts
    )


def _correct(run: RunFolder, model: str) -> str:
    """How many images have a label that the model predicts: "108 of 120 (90 %)"; empty where no label is known.

    Images that the model left out since it names them wrongly count as well.
    """
    rows = run.records[(run.records["model"] == model) & (run.records["image_id"] != WHOLE_SET)]
    if run.config.get("target") == "predicted" or rows.empty:
        return ""
    rows = rows.drop_duplicates(["data", "image_id", "target_class"])
    split = classified(rows)
    images = (split[split != "unknown"] == "correct").groupby([rows["data"], rows["image_id"]], observed=True).any()
    correct = int(images.sum())
    left_out = sum(count["chosen"] - count["kept"] for count in run.images(model).values())
    total = len(images) + left_out
    return f"{correct:,} of {total:,} ({share(correct, total)})" if len(images) else ""


def _data(run: RunFolder) -> list[dict[str, str]]:
    """Each data set's images, and how many of them have records that aren't of a bad image."""
    rows = []
    for name, data in (run.manifest.get("data") or {}).items():
        records = run.records[(run.records["data"] == name) & (run.records["image_id"] != WHOLE_SET)]
        bad = records.loc[records["target_class"] == UNKNOWN_CLASS, "image_id"].nunique()
        counts = {
            "ids": f"{len(data.get('ids') or []):,}",
            "seen": f"{records['image_id'].nunique():,}",
            "bad": f"{bad:,}",
        }
        rows.append({"name": name, **counts, "fingerprint": str(data.get("fingerprint") or "")[:12]})
    return rows


def precision_text(precision: Any) -> str:
    """ "trunk fp32, head fp32", or what else the manifest says."""
    if isinstance(precision, dict):
        return ", ".join(f"{part} {kind}" for part, kind in precision.items())
    return str(precision or "")
