"""Tests of the progress that a command shows, with a clock that the test sets, and of its notes."""

import io
import pickle
import time
import warnings
from collections.abc import Iterator
from contextlib import nullcontext

import pytest
import torch
from rich.console import Console
from rich.text import Text

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
from axiom_bench.run import samples, spine, whole_set, worker
from axiom_bench.run.notes import kernel_notes, note_lines, warning_lines
from axiom_bench.run.progress import Bar, Estimate, Lines, Step, progress, rate, without_lines
from axiom_bench.run.shards import counted


def test_a_slow_network_has_seconds_an_image():
    for images, seconds, text in (
        (64, 3.2, "20.0 images/s"),
        (3, 61, "20.3 s/image"),
        (1, 1, "1.0 images/s"),
        (0, 5, ""),
        (0.02, 1, "50.0 s/image"),
    ):
        assert rate(images, seconds) == text


def test_notes_are_hidden_without_lines(capsys):
    with without_lines():
        spine._print("the labels don't match")
    spine._print("the next run's note")
    assert capsys.readouterr().out == "the next run's note\n"


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def console(terminal: bool) -> Console:
    file = Terminal() if terminal else io.StringIO()
    return Console(file=file, force_terminal=terminal, width=80)


def text_of(console: Console) -> str:
    return console.file.getvalue()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def log() -> Console:
    """A console that isn't a terminal."""
    return console(terminal=False)


@pytest.fixture(autouse=True)
def no_line_yet(monkeypatch) -> Iterator[None]:
    """A process that has not printed a line of progress yet."""
    monkeypatch.setattr(Lines, "printed", 0.0)
    yield
    assert not module._stack


def test_a_log_has_a_line_every_ten_seconds(clock, log):
    lines = Lines("a on scenes", 64, log, now=clock)
    for second in range(31):
        clock.now = second
        if second == 10:
            lines.advance(16)
        lines.print_if_due()
    assert text_of(log).splitlines() == [
        "a on scenes: 16 of 64 images, 1.6 images/s, about 30 s left",
        "a on scenes: 16 of 64 images, 1.2 s/image, about 60 s left",
        "a on scenes: 16 of 64 images, 1.9 s/image, about 90 s left",
    ]


def test_the_pause_between_lines_is_of_all_that_is_shown(clock, log):
    """Check that a command of many short stages prints a line from time to time."""
    for number in range(7):
        clock.now = 3.0 * number
        stage = Lines(f"stage {number}", None, log, now=clock)
        clock.now += 2
        stage.print_if_due()
    assert text_of(log).splitlines() == ["stage 3 ... 2 s"]


def test_the_time_of_all_jobs_is_printed_once_after_the_first_batch(clock, log):
    """Check that a job which hasn't begun counts as many images as the current job."""
    estimate = Estimate(jobs=2, images=128)
    lines = Lines("a on scenes", 64, log, estimate, clock)
    clock.now = 30
    lines.advance(16)
    clock.now = 45
    lines.advance(16)
    sentence = "The run will take about 6 min at this rate; Ctrl-C keeps what is done."
    assert text_of(log).splitlines()[0] == sentence
    assert "about 4 min left" in lines.line(45)
    Lines("b on scenes", 64, log, estimate, clock).advance(64)
    assert text_of(log).count("The run will take") == 1


def test_before_the_first_batch_a_line_has_only_the_time(clock, log):
    lines = Lines("Computing", 64, log, Estimate(jobs=0), clock)
    assert lines.line(11) == "Computing: 0 of 64 images after 11 s"
    clock.now = 16
    lines.done = 32
    assert lines.line(16) == "Computing: 32 of 64 images, 2.0 images/s, about 16 s left"


@pytest.mark.parametrize("seconds", [0.5, 2.0])
def test_no_time_is_printed_for_a_moment(clock, log, seconds):
    lines = Lines("a on scenes", 64, log, Estimate(jobs=0), clock)
    clock.now = seconds
    lines.advance(16)
    assert text_of(log) == ""


def test_a_log_with_colours_has_no_bar():
    """Check a file that rich takes for a terminal.

    FORCE_COLOR has that effect. A notebook's kernel and many CI systems set it.
    """
    coloured_log = Console(file=io.StringIO(), force_terminal=True)
    with progress("a on scenes", 64, coloured_log) as display:
        assert isinstance(display, Lines)


def test_a_log_is_on_standard_error(capsys, monkeypatch, log):
    """Check that standard output has no progress, so that it is the same on a slow machine."""
    monkeypatch.setattr(Lines, "printed", time.perf_counter())
    with progress("Writing the report", None, log), progress("a on scenes", 64, log) as display:
        display.advance(64)
    with pytest.raises(KeyError), progress("a", None, log), progress("b", None, log):
        raise KeyError  # an error ends both displays
    assert capsys.readouterr() == ("", "")

    with progress("Writing the report", None, log) as display:
        assert isinstance(display, Lines)
        monkeypatch.setattr(module, "PAUSE", 0.0)
        display.print_if_due()
    assert text_of(log) == ""
    assert capsys.readouterr().err.startswith("Writing the report ... 0 s\n")


def test_rich_prints_lines_of_what_takes_long(capsys, monkeypatch, log):
    monkeypatch.setattr(module, "PAUSE", 0.0)
    with progress("Writing the report", None, log):
        wait_until(lambda: "Writing the report ... " in capsys.readouterr().err)


def wait_until(is_true, seconds: float = 30.0) -> None:
    end = time.monotonic() + seconds
    while not is_true():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_a_reader_that_has_gone_ends_no_command(monkeypatch, log):
    calls: list[int] = []

    def fail_to_print(lines: Lines) -> None:
        calls.append(1)
        # `| head` has read enough. The command itself finds out with its next line.
        raise BrokenPipeError

    monkeypatch.setattr(Lines, "print_if_due", fail_to_print)
    with progress("Writing the report", None, log):
        wait_until(lambda: len(calls) > 1)


@pytest.mark.parametrize("width", [60, 80, 120])
def test_a_line_of_a_terminal_fits(width):
    file = Terminal()
    terminal = Console(file=file, force_terminal=True, width=width)
    title = "a_network at its.last.layer on images: computing maps and metrics"
    with progress(title, 64, terminal, Estimate(jobs=0)) as display:
        display.advance(34)
    last = [line for line in file.getvalue().splitlines() if "34 of 64 images, " in line][-1]
    text = Text.from_ansi(last.rpartition("\r")[2]).plain
    assert "left" in text
    assert len(text.rstrip()) <= width


def test_a_terminal_shows_the_innermost_and_then_what_goes_on():
    terminal = console(terminal=True)
    with progress("a: start", None, terminal) as outer:
        with progress("a: hashing the images", 4, terminal) as inner:
            assert isinstance(inner, Bar)
            inner.advance(3)
        assert outer is module._stack[-1]
        outer.says("a: cut")
    text = text_of(terminal)
    parts = ("a: start", "a: hashing the images", "3 of 4 images", "a: cut")
    positions = [text.index(part) for part in parts]
    assert positions == sorted(positions)


def test_a_bar_has_the_time_of_all_jobs(clock):
    terminal = console(terminal=True)
    bar = Bar("a on scenes", 64, terminal, Estimate(jobs=2, images=128), clock)
    assert bar.description() == "a on scenes"
    clock.now = 30
    bar.advance(16)
    bar.step = Step("Grad-CAM")
    assert bar.description() == "a on scenes, Grad-CAM, all jobs 6 min"


@pytest.mark.parametrize(
    ("total", "numbers"), [(None, ("0:00:00",)), (64, ("5 of 64 images, ", " images/s, ", " left"))]
)
def test_a_long_title_leaves_room_for_the_numbers(total, numbers):
    """Check the numbers, without which the line would not change."""
    terminal = console(terminal=True)
    title = "Writing Fig 5: Maps of Grad-CAM, Grad-CAM++, Ablation-CAM and XGrad-CAM"
    with progress(title, total, terminal) as display:
        display.advance(5)
    text = text_of(terminal)
    assert all(part in text for part in (*numbers, "Writing Fig 5"))


def test_images_count_once_when_their_batch_is_done():
    """Check an image with two labels in two batches, and an image without a class in none."""
    batches = [
        Batch(torch.zeros(2, 3, 4, 4), ("a", "b")),
        BadImage("c", "has no class"),
        Batch(torch.zeros(1, 3, 4, 4), ("b",)),
    ]
    increments: list[int] = []
    counts_before_batch = []
    for _ in counted(iter(batches), 4, increments.append):
        counts_before_batch.append(sum(increments))
    assert counts_before_batch == [0, 2, 3]
    assert sum(increments) == 4


KERNEL = "adaptive_max_pool2d_backward_cuda"


def test_each_sentence_once_and_problems_counted():
    notes = Notes()
    for _ in range(3):
        notes.add(MethodLeftOut("The method 'cam' is left out: no pooling"))
        notes.add(MethodNotTimed("No run time for the method 'cam': no pooling"))
        # not among the lines, as it is printed before the first batch
        notes.add(NotFiniteMaps("The maps of 'mine' aren't finite"))
        notes.add(ImageProblem("a.jpg: no file"))
    notes.add(ZeroMaps("The gradients are zero"))
    notes.add(MetricsLeftOut("Metrics are left out: no boxes"))
    for problem in ("b.jpg: no file", "b.jpg: no class", "b.jpg: the mask b.png has colours"):
        notes.add(ImageProblem(problem))
    for name in ("c.jpg", "d.jpg", "c.jpg"):
        notes.add(ImageNotRead(f"{name}: no file"))
    notes.add(DamagedFile("run/records/a.parquet"))
    warning = f"{KERNEL} does not have a deterministic implementation, but you set"
    with kernel_notes() as torch_notes:
        for _ in range(2):
            warnings.warn(warning, stacklevel=1)

    assert warning_lines(notes + torch_notes) == (
        "The gradients are zero",
        "2 images can't be read, the first: c.jpg: no file",
        "1 mask can't be used, so metrics of masks have no value there; boxes aren't affected, the "
        "first: b.jpg: the mask b.png has colours",
        "2 images lack an annotation, so metrics that need it have no value there, the first: "
        "a.jpg: no file",
        "1 damaged file is replaced: 1 in records",
    )
    assert note_lines(notes + torch_notes) == (
        "The method 'cam' is left out: no pooling",
        "Metrics are left out: no boxes",
        f"{KERNEL} adds in any order on this GPU: the last digits of values may change from run "
        "to run.",
    )


def test_notes_are_joined_and_travel_between_processes():
    first = Notes()
    first.add(ZeroMaps("zeros"))
    second = Notes()
    second.add(MethodLeftOut("left out"))
    second.add(ZeroMaps("zeros"))
    both = pickle.loads(pickle.dumps(first + second))
    assert [(type(note), str(note)) for note in both] == [
        (ZeroMaps, "zeros"),
        (MethodLeftOut, "left out"),
    ]
    assert both.sentences(ZeroMaps) == ["zeros"]
    assert len(first) == 1
    assert len(second) == 2
    assert not Notes()


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

    left_out, beyond = warning_lines(notes)

    assert left_out.startswith(("3 boxes are left out, ", "3 boxes are left out (in"))
    assert "(in 2 images), the first: a.jpg: the box [0, 0, 5, 5] of 'zebra'" in left_out
    assert "add the class to data.classes" in left_out
    sentence = "1 box reaches more than a pixel beyond its image"
    assert beyond.startswith((f"{sentence}, ", f"{sentence} (in"))
    assert "missing" not in left_out
    assert "missing" not in beyond


@pytest.mark.parametrize("category", [UserWarning, RuntimeWarning])
def test_other_warnings_than_those_on_kernels_go_on(category):
    with pytest.warns(category, match="is left out: "), kernel_notes() as notes:
        warnings.warn("The last batch is left out: it has one image", category, stacklevel=1)
    assert not notes


def test_a_stage_has_its_time_and_may_go_on(monkeypatch):
    times = iter((0.0, 2.0, 3.0, 11.0, 12.0, 13.0))
    titles: list[str] = []
    seconds: dict[str, float] = {}
    monkeypatch.setattr(worker.time, "perf_counter", lambda: next(times))
    monkeypatch.setattr(worker, "progress", lambda title: nullcontext(titles.append(title)))
    for name in ("start", "run times", "run times"):
        with worker.stage(seconds, "a", name):
            pass
    monkeypatch.undo()
    assert seconds == {"start": 2.0, "run times": 9.0}
    assert titles == [
        "a: loading the model and data",
        "a: measuring run times",
        "a: measuring run times",
    ]


def test_every_stage_has_words_that_say_what_happens():
    stages = {worker.START, *samples.STAGES.values(), *whole_set.STAGES.values()}
    assert stages == worker.TITLES.keys()


def test_in_a_process_of_an_executor_nothing_is_shown(capsys, monkeypatch):
    monkeypatch.setattr(module, "PAUSE", 0.0)
    with module.silent(), module.progress("outer", 2) as display, module.progress("inner"):
        module.advance(1)
        time.sleep(0.7)
        display.advance(1)
    assert capsys.readouterr() == ("", "")
    module.advance(1)  # without a display it does nothing


def test_a_step_of_an_image_stands_behind_the_count():
    lines = Lines("Computing maps", 2, Console(), now=lambda: 0.0)
    lines.advance(1)
    assert lines.line(4) == "Computing maps: 1 of 2 images, 4.0 s/image, about 4 s left"
    with module.silent(), progress("Computing maps", 2) as display:
        module.show_step(Step("axiom errors"))
        assert display.step.title == "axiom errors"
    lines.step = Step("axiom errors")
    assert lines.line(4).endswith("4.0 s/image, about 4 s left, axiom errors")


class Passes:
    """A count of passes that the test sets."""

    count = 50  # of earlier steps

    def __call__(self) -> int:
        return self.count


def test_a_step_of_many_passes_has_the_time_that_is_left(clock):
    passes = Passes()
    lines = Lines("Computing maps", 1, Console(), now=clock)
    bar = Bar("Computing maps", 1, Console(), now=clock)
    step = Step("RISE", passes, 4000, now=clock)
    lines.step = step
    bar.step = step
    clock.now = 10
    assert lines.line(10).endswith("0 of 1 images after 10 s, RISE: 0 of 4,000 passes")
    passes.count = 1050
    line = "Computing maps: 0 of 1 images after 10 s, RISE: 1,000 of 4,000 passes, about 30 s left"
    assert lines.line(10) == line
    # A bar of 80 characters has room for one count.
    assert bar.description() == "Computing maps, RISE"
    assert bar.counted_text() == "1,000 of 4,000 passes, about 30 s left"
    assert len(bar.counted_text()) <= module.BESIDE_COUNTED


def test_after_the_first_image_a_bar_has_the_time_of_all_images_and_the_share_of_the_step(clock):
    passes = Passes()
    bar = Bar("Computing maps", 3, console(terminal=True), now=clock)
    clock.now = 40
    bar.advance(1)
    bar.step = Step("RISE", passes, 4000, now=clock)
    passes.count = 1050
    assert bar.description() == "Computing maps, RISE 25 %"
    assert bar.counted_text() == "1 of 3 images, 40.0 s/image, about 80 s left"


def test_a_step_counts_only_many_passes_and_needs_no_total(clock):
    passes = Passes()
    unknown = Step("Occlusion", passes, now=clock)
    few = Step("Saliency", passes, 2, now=clock)
    assert [unknown.counts(), few.counts(), few.share()] == ["", "", ""]
    passes.count += 170
    assert unknown.counts() == "170 passes"
    assert few.counts() == "170 passes"  # more than expected: the total was wrong
    assert few.share() == ""
