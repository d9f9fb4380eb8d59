"""What a command shows of what it is doing, with a clock that the test sets; a job's notes."""

import io
import pickle
import time
import warnings
from collections.abc import Iterator
from contextlib import nullcontext

import pytest
import torch
from rich.console import Console

from axiom_bench.data import base
from axiom_bench.data.base import BadImage
from axiom_bench.data.batch import Batch
from axiom_bench.notes import (
    DamagedFile,
    ImageNotRead,
    ImageProblem,
    MethodLeftOut,
    MethodNotTimed,
    MetricsLeftOut,
    Notes,
    NotFiniteMaps,
    Warnings,
    ZeroMaps,
)
from axiom_bench.run import progress as module
from axiom_bench.run import worker
from axiom_bench.run.notes import kernel_notes, note_lines
from axiom_bench.run.progress import Bar, Estimate, Lines, progress, rate
from axiom_bench.run.shards import counted


def test_a_slow_network_has_seconds_an_image():
    rates = {
        (64, 3.2): "20.0 images/s",
        (3, 61): "20.3 s/image",
        (1, 1): "1.0 images/s",
        (0, 5): "",
    }
    rates[0.02, 1] = "50.0 s/image"
    assert {of: rate(*of) for of in rates} == rates


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def console(terminal: bool) -> Console:
    return Console(
        file=Terminal() if terminal else io.StringIO(), force_terminal=terminal, width=80
    )


def shown_by(console: Console) -> str:
    return console.file.getvalue()


@pytest.fixture(autouse=True)
def no_line_yet(monkeypatch) -> Iterator[None]:
    monkeypatch.setattr(Lines, "printed", 0.0)
    yield
    assert not module._stack


def test_a_log_has_a_line_every_ten_seconds():
    clock, log = Clock(), console(terminal=False)
    lines = Lines("a on scenes", 64, log, now=clock)
    for second in range(31):
        clock.now = second
        if second == 10:
            lines.advance(16)
        lines.print_if_due()
    rates = ("1.6 images/s", "1.2 s/image", "1.9 s/image")
    assert shown_by(log).splitlines() == [f"a on scenes: 16 of 64 images, {text}" for text in rates]


def test_the_pause_between_lines_is_of_all_that_is_shown():
    """Many short stages aren't a silence."""
    clock, log = Clock(), console(terminal=False)
    for number in range(7):
        clock.now = 3.0 * number
        stage = Lines(f"stage {number}", None, log, now=clock)
        clock.now += 2
        stage.print_if_due()
    assert shown_by(log).splitlines() == ["stage 3: 2 s"]


def test_the_time_of_all_jobs_is_printed_once_after_the_first_batch():
    """Jobs that haven't begun count as many images as the one that is computed."""
    clock, log = Clock(), console(terminal=False)
    estimate = Estimate(jobs=2, images=128)
    lines = Lines("a on scenes", 64, log, estimate, clock)
    clock.now = 30
    lines.advance(16)
    clock.now = 45
    lines.advance(16)
    sentence = "The run will take about 6 min at this rate; Ctrl-C keeps what is done."
    assert shown_by(log).splitlines()[0] == sentence
    assert "about 4 min left" in lines.line(45)
    Lines("b on scenes", 64, log, estimate, clock).advance(64)
    assert shown_by(log).count("The run will take") == 1


@pytest.mark.parametrize("seconds", [0.5, 2.0])
def test_no_time_is_printed_for_a_moment(seconds):
    clock, log = Clock(), console(terminal=False)
    lines = Lines("a on scenes", 64, log, Estimate(jobs=0), clock)
    clock.now = seconds
    lines.advance(16)
    assert shown_by(log) == ""


def test_a_log_with_colours_has_no_bar():
    """FORCE_COLOR, which a notebook's kernel and many CI systems set, makes rich call any file a
    terminal.
    """
    log = Console(file=io.StringIO(), force_terminal=True)
    with progress("a on scenes", 64, log) as shown:
        assert isinstance(shown, Lines)


def test_a_log_is_on_standard_error(capsys, monkeypatch):
    """Standard output is the same on a slow machine."""
    monkeypatch.setattr(Lines, "printed", time.perf_counter())
    log = console(terminal=False)
    with progress("report", None, log), progress("a on scenes", 64, log) as shown:
        shown.advance(64)
    with pytest.raises(KeyError), progress("a", None, log), progress("b", None, log):
        raise KeyError  # which ends what is shown
    assert capsys.readouterr() == ("", "")
    with progress("report", None, log) as shown:
        assert isinstance(shown, Lines)
        monkeypatch.setattr(module, "PAUSE", 0.0)
        shown.print_if_due()
    assert shown_by(log) == ""
    assert capsys.readouterr().err.startswith("report: 0 s\n")


def test_rich_prints_lines_of_what_takes_long(capsys, monkeypatch):
    monkeypatch.setattr(module, "PAUSE", 0.0)
    with progress("report", None, console(terminal=False)):
        wait_until(lambda: "report: " in capsys.readouterr().err)


def wait_until(is_true, seconds: float = 30.0) -> None:
    end = time.monotonic() + seconds
    while not is_true():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_a_reader_that_has_gone_ends_no_command(monkeypatch):
    def gone(lines: Lines) -> None:
        calls.append(1)
        # `| head` has read enough: the next line of the command itself says so
        raise BrokenPipeError

    calls: list[int] = []
    monkeypatch.setattr(Lines, "print_if_due", gone)
    with progress("report", None, console(terminal=False)):
        wait_until(lambda: len(calls) > 1)


def test_a_terminal_shows_the_innermost_and_then_what_goes_on():
    terminal = console(terminal=True)
    with progress("a: start", None, terminal) as outer:
        with progress("a: hashes of the images", 4, terminal) as inner:
            assert isinstance(inner, Bar)
            inner.advance(3)
        assert outer is module._stack[-1]
        outer.says("a: cut")
    text = shown_by(terminal)
    places = [text.index(part) for part in ("a: start", "a: hashes of the images", "3/4", "a: cut")]
    assert places == sorted(places)


def test_a_bar_has_the_time_of_all_jobs():
    terminal, clock = console(terminal=True), Clock()
    bar = Bar("a on scenes", 64, terminal, Estimate(jobs=2, images=128), clock)
    assert bar.description() == "a on scenes"
    clock.now = 30
    bar.advance(16)
    bar.step = "Grad-CAM"
    assert bar.description() == "a on scenes, Grad-CAM, all jobs 6 min"


@pytest.mark.parametrize(
    ("total", "numbers"), [(None, ("0:00:00",)), (64, ("5/64", "0:00:00", "left"))]
)
def test_a_long_title_leaves_room_for_the_numbers(total, numbers):
    """Without them a line that doesn't change is a silence."""
    terminal = console(terminal=True)
    with progress(
        "paper, Fig 5: Maps of Grad-CAM, Grad-CAM++, Ablation-CAM and XGrad-CAM", total, terminal
    ) as shown:
        shown.advance(5)
    text = shown_by(terminal)
    assert all(part in text for part in (*numbers, "paper, Fig 5"))


def test_images_count_once_when_their_batch_is_done():
    """Of an image with two labels a row may stand in the next batch; an image without a class has
    none.
    """
    first, last = Batch(torch.zeros(2, 3, 4, 4), ("a", "b")), Batch(torch.zeros(1, 3, 4, 4), ("b",))
    done: list[int] = []
    seen = [
        sum(done)
        for _ in counted(iter([first, BadImage("c", "has no class"), last]), 4, done.append)
    ]
    assert seen == [0, 2, 3]
    assert sum(done) == 4


KERNEL = "adaptive_max_pool2d_backward_cuda"


def test_each_sentence_once_and_problems_counted():
    notes = Notes()
    for _ in range(3):
        notes.add(MethodLeftOut("The method 'cam' is left out: no pooling"))
        notes.add(MethodNotTimed("No run time for the method 'cam': no pooling"))
        # printed before the first batch
        notes.add(NotFiniteMaps("The maps of 'mine' aren't finite"))
        notes.add(ImageProblem("a.jpg: no file"))
    notes.add(ZeroMaps("The gradients are zero"))
    notes.add(MetricsLeftOut("Metrics are left out: no boxes"))
    for problem in ("b.jpg: no file", "b.jpg: no class"):
        notes.add(ImageProblem(problem))
    for name in ("c.jpg", "d.jpg", "c.jpg"):
        notes.add(ImageNotRead(f"{name}: no file"))
    notes.add(DamagedFile("run/records/a.parquet"))
    with kernel_notes() as torch_notes:
        for _ in range(2):
            warnings.warn(
                f"{KERNEL} does not have a deterministic implementation, but you set", stacklevel=1
            )
    assert note_lines(notes + torch_notes) == (
        "The method 'cam' is left out: no pooling",
        "The gradients are zero",
        "Metrics are left out: no boxes",
        "2 images can't be read, the first: c.jpg: no file",
        "2 images have an annotation that is missing or can't be read, the first: a.jpg: no file",
        "1 damaged file is written anew: 1 in records",
        f"{KERNEL} adds in any order on this GPU: the last digits of values may change from run "
        "to run.",
    )


def test_notes_are_joined_and_travel_between_processes():
    first, second = Notes(), Notes()
    first.add(ZeroMaps("zeros"))
    second.add(MethodLeftOut("left out"))
    second.add(ZeroMaps("zeros"))
    both = pickle.loads(pickle.dumps(first + second))
    assert [(type(note), str(note)) for note in both] == [
        (ZeroMaps, "zeros"),
        (MethodLeftOut, "left out"),
    ]
    assert both.sentences(ZeroMaps) == ["zeros"]
    assert (len(first), len(second), bool(Notes())) == (1, 2, False)


def test_without_a_collector_a_note_is_a_warning_each_time():
    notes = Warnings()
    for _ in range(2):
        with pytest.warns(ZeroMaps, match="zeros"):
            notes.add(ZeroMaps("zeros"))
    assert not notes


def test_boxes_that_are_left_out_are_counted_and_their_images_are_not_said_to_lack_annotations():
    notes = Notes()
    for image, box in (("a.jpg", [0, 0, 5, 5]), ("a.jpg", [1, 1, 5, 5]), ("b.jpg", [0, 0, 5, 5])):
        for _ in range(2):  # an image may be read twice
            notes.add(ImageProblem(f"{image}: the box {box} of 'zebra' {base.OTHER_CLASS}"))
    notes.add(ImageProblem(f"b.jpg: the box [0, 0, 9, 9] of 'cow' {base.BEYOND}"))
    lines = note_lines(notes)
    assert [line.split(", ")[0].split(" (in")[0] for line in lines] == [
        "3 boxes are left out",
        "1 boxes reach more than a pixel beyond their image",
    ]
    assert "(in 2 images), the first: a.jpg: the box [0, 0, 5, 5] of 'zebra'" in lines[0]
    assert "to use them, add it there" in lines[0]
    assert not any("missing" in line for line in lines)


@pytest.mark.parametrize("category", [UserWarning, RuntimeWarning])
def test_other_warnings_than_those_on_kernels_go_on(category):
    with pytest.warns(category, match="is left out: "), kernel_notes() as notes:
        warnings.warn("The last batch is left out: it has one image", category, stacklevel=1)
    assert not notes


def test_a_stage_has_its_time_and_may_go_on(monkeypatch):
    times, shown, seconds = iter((0.0, 2.0, 3.0, 11.0, 12.0, 13.0)), list[str](), dict[str, float]()
    monkeypatch.setattr(worker.time, "perf_counter", lambda: next(times))
    monkeypatch.setattr(worker, "progress", lambda title: nullcontext(shown.append(title)))
    for name in ("start", "run times", "run times"):
        with worker.stage(seconds, "a", name):
            pass
    monkeypatch.undo()
    assert seconds == {"start": 2.0, "run times": 9.0}
    assert shown == ["a: model and data", "a: run times", "a: run times"]


def test_in_a_process_of_an_executor_nothing_is_shown(capsys, monkeypatch):
    monkeypatch.setattr(module, "PAUSE", 0.0)
    with module.silent(), module.progress("outer", 2) as shown, module.progress("inner"):
        module.advance(1)
        time.sleep(0.7)
        shown.advance(1)
    assert capsys.readouterr() == ("", "")
    module.advance(1)  # of nothing


def test_a_step_of_an_image_stands_behind_the_count():
    lines = Lines("maps", 2, Console(), now=lambda: 0.0)
    lines.advance(1)
    assert lines.line(4) == "maps: 1 of 2 images, 4.0 s/image"
    with module.silent(), progress("maps", 2) as shown:
        module.at("axiom errors")
        assert shown.step == "axiom errors"
    lines.step = "axiom errors"
    assert lines.line(4) == "maps: 1 of 2 images, 4.0 s/image, axiom errors"
