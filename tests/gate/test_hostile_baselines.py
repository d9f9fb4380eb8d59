"""A baseline from a stranger is data.

The gate compares it or answers in one sentence, whatever it contains.
"""

import os

import pytest

from axiom_bench.errors import BenchError
from axiom_bench.gate import baseline, gate, write_baseline
from axiom_bench.gate.baseline import Baseline

HEADER = "model,layer,data,method,metric,n,mean,median,statuses,tolerance\n"


def row(**changes):
    cells = {
        "model": "one",
        "layer": "last",
        "data": "scenes",
        "method": "grad_cam",
        "metric": "error",
        "n": "39",
        "mean": "0.5",
        "median": "0.5",
        "statuses": "ok:39 zero_map:1",
        "tolerance": "median:0.5%",
    }
    return ",".join((cells | changes).values()) + "\n"


# Names of a fault and the cells of a row with it.
CELLS = {
    "formula": {"method": "=HYPERLINK(1)"},
    "formula by plus": {"model": "+1"},
    "formula by minus": {"model": "-1"},
    "formula by at": {"metric": "@SUM(A1)"},
    "formula behind a tab": {"method": "\t=1"},
    "escape of a terminal": {"method": "\x1b[2Jgrad_cam"},
    "two lines": {"method": '"a\nb"'},
    "right to left": {"method": "\u202egrad_cam"},
    "empty name": {"method": ""},
    "long name": {"method": "a" * 201},
    "field of a megabyte": {"method": "a" * 2**20},
    "infinite": {"mean": "inf"},
    "minus infinite": {"median": "-1e999"},
    "n below zero": {"n": "-1"},
    "n of 5,000 digits": {"n": "9" * 5000},
    "n is NaN": {"n": "nan"},
    "n in other digits": {"n": "\u00b2"},
    "a number with code": {"mean": "__import__('os')"},
    "statuses": {"statuses": "ok:1;rm"},
    "tolerance": {"tolerance": "median:1e999%"},
    "huge tolerance": {"tolerance": "median:" + "9" * 400},
    "tolerances without end": {"tolerance": "mean:1% " * 10000},
}


FILES_WITH_CELLS = {
    name: ("# experiment: quick\n" + HEADER + row(**cells)).encode()
    for name, cells in CELLS.items()
}
FILES = FILES_WITH_CELLS | {
    "missing column": (HEADER + row()).replace("n,mean", "mean", 1).encode(),
    "column twice": (HEADER.replace("layer", "model") + row()).encode(),
    "other encoding": (HEADER + row(method="caf\u00e9")).encode("latin-1"),
    "UTF-16": (HEADER + row()).encode("utf-16"),
    "NUL": (HEADER + row(method="a\0b")).encode(),
    "binary": bytes(range(256)),
    "no rows": HEADER.encode(),
    "a quote that doesn't end": (HEADER + '"' + row()).encode(),
    "empty": b"",
    "text": b"not a baseline",
    "head alone": b"# experiment: quick\n",
    "other columns": b"# experiment: quick\nmodel,layer\none,last\n",
    "cells missing": (HEADER + "a,b,c,d,e,1\n").encode(),
    "a cell more": (HEADER + row(tolerance="x,y")).encode(),
    "a row twice": (HEADER + 2 * row()).encode(),
}


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_is_no_baseline_is_one_sentence(tmp_path, name):
    file = tmp_path / "b.csv"
    file.write_bytes(FILES[name])
    message = r"is damaged at row \d" if name in CELLS else "damaged|can't be read"
    with pytest.raises(BenchError, match=message) as error:
        Baseline.read(file)
    assert str(error.value).isprintable()
    assert len(str(error.value)) < 1000


@pytest.mark.slow
def test_a_nan_is_no_number_that_holds_and_a_byte_order_mark_is_none_of_the_text(usual, tmp_path):
    """Check a huge number too: an infinite relative tolerance would allow anything."""
    baseline = write_baseline(usual, tmp_path / "b.csv")
    content = baseline.read_bytes()
    baseline.write_bytes(b"\xef\xbb\xbf" + content.replace(b"\n", b"\r\n"))
    assert gate(usual, baseline).exit_code == 0
    *lines, last = content.decode().splitlines(keepends=True)
    for cell in ("nan", "1e308", ""):
        parts = last.split(",")
        changed = ",".join([*parts[:6], cell, cell, *parts[8:]])
        baseline.write_text("".join([*lines, changed]))
        result = gate(usual, baseline)
        assert result.exit_code == 1, cell
        assert len(result.lines) == 2, cell


def test_a_pipe_a_folder_or_a_hundred_megabytes_are_no_baseline(usual, tmp_path):
    """Check a pipe too, since reading one that nobody writes to would wait without end.

    A header that is a command stays text.
    """
    os.mkfifo(tmp_path / "pipe.csv")
    (tmp_path / "folder.csv").mkdir()
    for name in ("pipe", "folder"):
        assert "is no file" in gate(usual, tmp_path / f"{name}.csv").conclusion
    with (tmp_path / "b.csv").open("wb") as sparse:
        sparse.truncate(100 * 2**20)
    assert "larger than 32 MiB" in gate(usual, tmp_path / "b.csv").conclusion
    text = f"# ::set-output name=x: y\x1b[2J\n# experiment: {'x' * 10**5}\n" + HEADER + row()
    (tmp_path / "b.csv").write_text(text)
    result = gate(usual, tmp_path / "b.csv")
    assert result.exit_code == 2
    assert result.conclusion.isprintable()
    assert len(result.conclusion) < 2000


@pytest.mark.parametrize("name", ["=1+1", "-x", "@x", "a\nb", "a" * 300])
def test_no_baseline_is_written_that_could_not_be_read(make_run, records, tmp_path, name):
    file = tmp_path / "b.csv"
    with pytest.raises(BenchError, match="the method "):
        write_baseline(make_run(records.replace({"method": {"uniform": name}})), file)
    assert not list(tmp_path.glob("b*"))


def test_names_that_are_no_formula_may_be_written(make_run, records, tmp_path):
    """Check that `-` by itself is the method of a value of the layer."""
    names = {"uniform": "-", "grad_cam": "grad_cam@torchcam", "xgrad_cam": 'caf\u00e9, "quoted"'}
    run = make_run(records.replace({"method": names}))
    assert gate(run, write_baseline(run, tmp_path / "b.csv")).exit_code == 0
    baseline.check_name("layer", "blocks[-1].norm1")
