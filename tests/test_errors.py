"""The error message for an unknown name."""

from axiom_bench.errors import unknown_name


def test_an_unknown_name_comes_with_the_nearest_a_short_list_or_no_names():
    assert (
        str(unknown_name("layer", "covn", ["conv", "fc"]))
        == "There is no layer 'covn'; did you mean 'conv'?"
    )
    names = ["grad_cam", "xgrad_cam", "hires_cam"]
    assert str(unknown_name("method", "xgradcam", names)).endswith(
        "did you mean 'xgrad_cam' or 'grad_cam'?"
    )
    assert "did you mean 'grad_cam'" in str(unknown_name("method", "GradCAM", names))
    sentence = "There is no device 'xyz'; there are: cpu, cuda."
    assert str(unknown_name("device", "xyz", ["cpu", "cuda"])) == sentence

    many_names = [f"net{number:03d}" for number in range(400)]
    sentence = f"There is no model '???'; there are 400: {', '.join(many_names[:12])}, ..."
    assert str(unknown_name("model", "???", many_names)) == sentence

    sentence = "There is no setting 'data.limit'; none is defined here."
    assert str(unknown_name("setting", "data.limit", [])) == sentence
    assert (
        len(str(unknown_name("method", [["x" * 300]] * 9, ["cam"]))) < 200
    )  # long names are truncated
