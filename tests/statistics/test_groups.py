"""The groups that box-plots show, against pandas."""

from __future__ import annotations

from typing import Any

from axiom_bench.statistics.chart_data import counts_in, groups_of
from axiom_bench.statistics.run_folder import METHOD_FREE, RunFolder


def test_groups_are_those_of_the_rows(make_run: Any, make_records: Any) -> None:
    """By setting and method, in the run's order and each group's rows in the records', without those of no value."""
    run = RunFolder.read(make_run(make_records(30)))
    for name, methods in (("box_iou", run.methods), ("conservation_error", run.methods[1:3]), ("zeta", [METHOD_FREE])):
        groups = groups_of(run, name, methods)
        rows = run.records.rows([name])
        rows = rows[(rows["status"] == "ok") & rows["method"].isin(methods)]
        expected = dict(iter(rows.groupby(["model", "layer", "data", "method"], observed=True)))
        found = {(*setting, method): group for setting, own in groups.items() for method, group in own.items()}
        assert list(found) == list(expected)
        for key, group in found.items():
            assert group.values.tolist() == expected[key]["value"].tolist()
            assert run.records.keys["image_id"].iloc[group.keys].tolist() == expected[key]["image_id"].tolist()
            assert group.images == expected[key]["image_id"].nunique()
        sizes = [len(own) for own in expected.values()]
        assert f"{min(sizes)}" in counts_in(found.values())
        assert f"{max(sizes)} rows" in counts_in(found.values())
    assert groups_of(run, "not_measured", run.methods) == {}
