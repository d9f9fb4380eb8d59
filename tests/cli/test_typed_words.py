"""Words of other programs lead to the setting that a user means, with one message."""

from __future__ import annotations

from argparse import Namespace

import pytest

from axiom_bench.cli.main import main, parse
from axiom_bench.cli.model_options import model_overrides
from axiom_bench.errors import BenchError
from axiom_bench.run.composing.composition import base_keys
from axiom_bench.run.composing.typed_words import WORDS, instead_of


@pytest.mark.parametrize(
    ("word", "advice"),
    [
        ("n_jobs=4", "type executor=processes executor.count=4 for processes that compute"),
        ("executor.workers=4", "type executor=processes executor.count=4"),
        ("processes=4", "type executor=processes executor.count=4"),
        ("workers=2", "type data.workers=2 for processes that decode images, or executor="),
        ("num_workers=2", "type data.workers=2 for processes that decode images, or executor="),
        ("gpu=1", "type device=cuda for a GPU; CUDA_VISIBLE_DEVICES=1 in front of the command"),
        ("models=resnet18", "type model=resnet18"),
        ("models=resnet18,vgg16", "type model=resnet18,vgg16"),
        ("methods=[grad_cam,cam]", 'type "method=[grad_cam,cam]"'),
        ("methods=grad_cam,cam", 'type "method=[grad_cam,cam]"'),
        ("metrics=box_iou", 'type "metric=[box_iou]"'),
        ("batch_size=16", "type data.batch_size=16"),
        ("layers=layer4", "type model.layer=layer4"),
        ("dataset=voc", "type data=voc"),
        ("output=out", "type results=out for the folder of all runs, or run=NAME"),
    ],
)
def test_a_setting_of_another_program(word, advice):
    key, _, value = word.partition("=")
    assert instead_of(key, value).startswith(advice)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("word", "advice"),
    [
        ("gpu=1", "type device=cuda for a GPU"),
        ("executor.workers=4", "type executor=processes executor.count=4"),
        ("methods=grad_cam,cam", 'type "method=[grad_cam,cam]"'),
    ],
    ids=["a setting", "a setting of a group", "several values"],
)
def test_the_command_says_so(word, advice, capsys):
    """Check one word for each place that finds unknown settings, since composing takes a second."""
    assert main([word]) == 2
    key = word.partition("=")[0]
    error = capsys.readouterr().err
    assert error.startswith(f"axiom-bench: There is no setting '{key}'; {advice}")
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["run", "--methods", "a,b"], 'There is no option --methods; type "method=[a,b]".'),
        (["--methods=a,b"], 'There is no option --methods; type "method=[a,b]".'),
        (
            ["run", "--batch-size", "16"],
            "There is no option --batch-size; type data.batch_size=16.",
        ),
        (["--model", "vgg16"], "There is no option --model; a setting has no dashes: model=vgg16."),
        (["--modle=vgg16"], "There is no option --modle; a setting has no dashes: model=vgg16."),
        (["--datset", "voc"], "There is no option --datset; type data=voc."),
        (["run", "--layer"], "There is no option --layer; type model.layer=VALUE."),
        (["--help-all"], "There is no option --help-all; axiom-bench --help lists the commands"),
    ],
)
def test_an_option_of_another_program(words, message, capsys):
    assert main(words) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"axiom-bench: {message}")
    assert error.count("\n") == 1


def test_no_word_hides_a_setting():
    assert not set(WORDS) & base_keys()
    assert instead_of("headliner", "1") is None


def test_a_model_is_a_name_or_code():
    assert model_overrides(Namespace(model=None, weights=None, layer=None)) == []
    named = Namespace(model="resnet18", weights="a.pth", layer="layer4")
    assert model_overrides(named) == ["model=resnet18", "model.weights=a.pth", "model.layer=layer4"]
    for code in ("net.py:build", "a/net.py:build", "my_module:build"):
        own = Namespace(model=code, weights=None, layer=None)
        assert model_overrides(own) == ["model=user", f"model.architecture={code}"]


@pytest.mark.parametrize("command", [["doctor"], ["explain", "photo.jpg"]])
def test_both_commands_have_the_options_of_the_model(command):
    options = parse([*command, "--model", "net.py:build", "--weights", "a.pth", "--layer", "x"])
    assert (options.model, options.weights, options.layer) == ("net.py:build", "a.pth", "x")


def test_an_unknown_option_without_a_setting_is_refused():
    with pytest.raises(BenchError, match="There is no option --colour; a setting has no dashes"):
        parse(["run", "--colour", "red"])
