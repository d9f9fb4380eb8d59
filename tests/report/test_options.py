"""What a report's settings may be, and their defaults."""

from __future__ import annotations

from dataclasses import fields

import pytest
import yaml

from axiom_bench.environment import conf_folder
from axiom_bench.errors import BenchError
from axiom_bench.report.options import Figures, Options, check_names


def test_an_unknown_option_is_told_with_its_neighbours() -> None:
    with pytest.raises(BenchError, match="headline"):
        Options.of({"report": {"headlines": []}})
    with pytest.raises(BenchError, match="perturbed"):
        Options.of({"report": {"figures": {"perturb": "grad_cam"}}})
    assert Options.of({"report": {"headline": ["zeta"]}}).headline == ("zeta",)
    assert Options.of({"report": {"figures": {"pair": ["a", "b"]}}}).figures.pair == ("a", "b")


def test_the_defaults_are_those_of_the_configuration() -> None:
    """They stood in two places, which differed in `headline`."""
    defaults = yaml.safe_load((conf_folder() / "config.yaml").read_text())["report"]
    options = Options.of({})
    assert list(options.headline) == defaults["headline"]
    assert list(options.columns) == defaults["columns"]
    assert options.figures.perturbed == defaults["figures"]["perturbed"]
    assert {field.name for field in fields(Options)} == set(defaults)
    assert {field.name for field in fields(Figures)} == set(defaults["figures"])


def test_names_that_nothing_has_are_refused_with_their_neighbours() -> None:
    options = Options.of({})
    values = {name for names in (options.headline, options.columns, *options.figures.values.values()) for name in names}
    methods = {"xgrad_cam", "guided_xgrad_cam"}
    check_names(options, methods, values)
    for report, message in (
        ({"headline": ["zetta"]}, "no metric for report.headline 'zetta'; did you mean 'zeta'"),
        ({"columns": ["zetta"]}, "no metric for report.columns 'zetta'"),
        ({"compare": "xgradcam"}, "no method for report.compare 'xgradcam'; did you mean 'xgrad_cam'"),
        ({"figures": {"pair": ["xgrad_cam", "x"]}}, "no method for report.figures.pair 'x'"),
        ({"figures": {"plane": ["zeta", "y"]}}, "no metric for report.figures.plane 'y'"),
    ):
        with pytest.raises(BenchError, match=message):
            check_names(Options.of({"report": report}), methods, values)
