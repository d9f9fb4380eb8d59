"""What a stranger's run folder, baseline, submission or answers can bring: expressions that would
be resolved, and paths that would be read. No command shows what they lead to.
"""

import json
import shutil
from collections.abc import Iterator
from itertools import cycle
from pathlib import Path
from typing import Any

import pytest

import axiom_bench as ab
from axiom_bench.cli.benchmark import run_jobs
from axiom_bench.cli.main import main
from axiom_bench.cli.trust import NOT_PATHS, trusted
from axiom_bench.errors import BenchError
from axiom_bench.gate import write_baseline
from axiom_bench.records import combining, files, submissions
from axiom_bench.run.manifest import keep
from tests.made_runs import entries_of

SECRET = "9d41-open-sesame"
METRICS = ("box_iou", "zeta")
EXPRESSIONS = (
    "${oc.env:OUR_SECRET}",
    "${oc.decode:${oc.env:OUR_SECRET}}",
    "a ${oc.env:OUR_SECRET,b} ${..seed}",
)


@pytest.fixture(scope="module")
def made_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with pictures and its manifest, without a report."""
    results = tmp_path_factory.mktemp("results")
    words = (
        "model=scenes_vgg",
        "method=[grad_cam,xgrad_cam]",
        f"metric=[{','.join(METRICS)}]",
        "data.size=24",
    )
    quick = ("runtime.repeats=0", "pictures.rows=1", "pictures.gallery=2", "device=cpu")
    settings, outcomes = run_jobs([*words, *quick, f"results={results}"])
    assert keep(settings, outcomes) is not None
    return settings.run_folder


@pytest.fixture
def copy(made_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The run as a stranger's, next to a secret in a file and one in the environment."""
    monkeypatch.setenv("OUR_SECRET", SECRET)
    (tmp_path / "secret.txt").write_text("".join(f"{SECRET} {line}\n" for line in range(10)))
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    folder = shutil.copytree(made_run, tmp_path / "results" / "quick" / "scenes_vgg")
    (folder / "link.txt").symlink_to(tmp_path / "secret.txt")
    return folder


def attacks(folder: Path) -> tuple[str, ...]:
    """Texts that lead to a secret, as an expression or as a path."""
    secret = folder.parents[2] / "secret.txt"
    return (
        *EXPRESSIONS,
        str(secret),
        "../secret.txt",
        f"file://{secret}",
        str(folder / "link.txt"),
    )


def leaked(folder: Path) -> list[str]:
    """The files below the test's folder that hold the secret, except the secret itself."""
    root = folder.parents[2]
    written = (path for path in root.rglob("*") if path.is_file() and not path.is_symlink())
    return [
        str(path)
        for path in written
        if SECRET.encode() in path.read_bytes() and path.name != "secret.txt"
    ]


def edit(folder: Path, **entries: Any) -> None:
    """Set entries of the group model, data, method or metric in all configurations of a
    manifest.
    """
    content = files.read_json(folder / "manifest.json")
    for config in (content["config"], *(job["config"] for job in content["jobs"])):
        for group, values in entries.items():
            config[group] |= values
    files.write_json(folder / "manifest.json", content)


SETTINGS = [
    *[
        ("model", key)
        for key in (
            "name",
            "architecture",
            "weights",
            "weights_folder",
            "classes",
            "output",
            "finetuned",
        )
    ],
    *[("model", key) for key in ("inputs", "read", "reshape", "layer", "kwargs")],
    *[("data", key) for key in ("root", "path", "classes", "labels", "split", "cache", "kwargs")],
]


@pytest.mark.slow
@pytest.mark.parametrize("number", range(len(SETTINGS)))
def test_no_setting_of_a_run_leads_to_a_secret(copy, number, capsys):
    group, key = SETTINGS[number]
    several = attacks(copy)
    expression, path = EXPRESSIONS[number % 3], several[3 + number % 4]
    for value in (expression, path, {"deep": [path]}):
        edit(copy, **{group: {key: value}})
        assert main(["game", str(copy)]) == 2
        if value == expression and group == "model":
            assert main(["verify", str(copy), "--trust"]) == 2
            assert main(["game", str(copy), "--trust"]) == 2
        elif key not in NOT_PATHS:
            assert main(["verify", str(copy)]) == 2
    assert SECRET not in "".join(capsys.readouterr())
    assert not leaked(copy)


def test_a_finished_run_holds_no_expression_and_no_file_without_trust(copy):
    (job,) = files.read_json(copy / "manifest.json")["jobs"]
    trusted(job["config"], is_trusted=False)
    for is_trusted in (False, True):
        with pytest.raises(
            BenchError, match=r"an expression, model\.kwargs\.a\.0=\$\{oc\.env:OUR_SECRET\}"
        ):
            trusted(
                {**job["config"], "model": {"kwargs": {"a": ["${oc.env:OUR_SECRET}"]}}}, is_trusted
            )
    paths = {
        "a list of classes": {"model": {"classes": "/etc/hosts"}},
        "a relative path": {"model": {"classes": "../secret.txt"}},
        "a file in the current folder": {"data": {"classes": "list.txt"}},
        "a pattern": {"data": {"path": ["*.tar"]}},
        "files by their names": {"data": {"of": {"path": {"a": "/etc/hosts"}}}},
        "a home": {"data": {"root": "~"}},
        "a parameter": {"metric": {"zeta": {"params": {"table": "/etc/hosts"}}}},
        "a file called as a setting": {"data": {"path": {"name": "/etc/hosts"}}},
        "an argument called as a setting": {"model": {"kwargs": {"source": "/etc/hosts"}}},
        "a parameter of a method called as a setting": {
            "method": {"name": {"params": {"path": "/etc/hosts"}}}
        },
        "a file of a method": {"method": {"cam": {"files": ["../secret.txt"]}}},
    }
    Path("list.txt").write_text("cat\n")
    groups: dict[str, Any] = {"model": {}, "data": {}, "method": {}, "metric": {}}
    for entries in paths.values():
        config = groups | entries
        with pytest.raises(BenchError, match=r"names files of this machine, .* Add --trust"):
            trusted(config, is_trusted=False)
    config = job["config"]
    model = {**config["model"], "name": "a/b", "classes": ["cat/dog"]}
    trusted(
        {**config, "model": model, "data": {**config["data"], "leave_out": ["n01/1.JPEG"]}},
        is_trusted=False,
    )


@pytest.mark.parametrize("group", ["model", "data", "method", "metric"])
@pytest.mark.parametrize("value", ["/etc/hosts", ["a"], None])
def test_a_group_of_another_type_is_refused(group, value):
    groups: dict[str, Any] = {"model": {}, "data": {}, "method": {}, "metric": {}}
    with pytest.raises(BenchError, match=f"{group} is a group of settings"):
        trusted({**groups, group: value}, is_trusted=False)


FREE = (
    "title",
    "note",
    "description",
    "definition",
    "deviation",
    "reference",
    "text",
    "url",
    "unit",
    "weights",
)
FREE += (
    "notes",
    "overrides",
    "git_commit",
    "versions",
    "hardware",
    "classes",
    "message",
    "real_root",
    "results",
)


def attacked(value: Any, texts: Iterator[str], is_free: bool = False) -> Any:
    """The value with an attack in the place of each text that decides nothing."""
    if isinstance(value, str):
        return next(texts) if is_free else value
    if isinstance(value, list):
        return [attacked(entry, texts, is_free) for entry in value]
    if isinstance(value, dict):
        return {key: attacked(entry, texts, is_free or key in FREE) for key, entry in value.items()}
    return value


def answers_of(folder: Path, attack: str) -> Path:
    """What a player might have saved."""
    about = {
        "game": attack,
        "model": attack,
        "layer": "l",
        "data": "d",
        "weights": "w",
        "share": "0.2",
    }
    own = {
        **{
            "trial": 0,
            "kind": "part",
            "image": attack,
            "method": attack,
            "title": attack,
            "class_index": 0,
        },
        **{"class": attack, "answer_index": 0, "answer": attack, "correct": 1, "milliseconds": 500},
    }
    file = folder / "answers" / "1.json"
    files.write_json(
        file, {"format": 1, **about, "checks_needed": 0, "player": 1, "answers": [own]}
    )
    return file.parent


@pytest.mark.slow
def test_commands_that_only_read_show_no_secret(copy, made_run, capsys, undrawn):
    several = attacks(copy)
    attack = ", ".join(several)
    baseline = write_baseline(made_run, copy.parents[2] / "own.csv")
    content = attacked(files.read_json(copy / "manifest.json"), cycle(several))
    files.write_json(copy / "manifest.json", content)
    theirs = copy.parents[2] / "theirs.csv"
    lines = [f"# {attack}: {attack}", f"# history: {attack}", f"# values by image: {attack}"]
    theirs.write_text("\n".join([*lines, baseline.read_text()]))
    output = copy.parents[2] / "out"
    run, own = str(copy), str(made_run)
    codes = {
        "status": main(["status", run]),
        "gate": main(["gate", run, "--baseline", str(baseline), "--markdown", f"{output}/a.md"]),
        "baseline": main(["gate", own, "--baseline", str(theirs), "--json", f"{output}/a.json"]),
        "write": main(
            ["gate", run, "--baseline", f"{output}/new.csv", "--write", "--reason", "new"]
        ),
        "compare": main(["compare", run, own]),
        "judge": main(["judge", run, "--truth", run]),
        "report": main(["report", run]),
        "combined": main(["report", run, own, "--output", f"{output}/combined"]),
        "game-score": main(
            ["game-score", str(answers_of(output, attack)), "--output", f"{output}/score.md"]
        ),
    }
    assert not any(codes[name] for name in ("status", "write", "report"))
    assert set(codes.values()) <= {0, 1, 2}
    assert len(ab.read_run(run)) > 0
    assert SECRET not in "".join(capsys.readouterr())
    assert not leaked(copy)


@pytest.mark.parametrize("left_out", ["config", "model", "device", "jobs"])
def test_a_manifest_that_lacks_settings_is_refused(copy, left_out, capsys):
    content = files.read_json(copy / "manifest.json")
    (job,) = content["jobs"]
    if left_out == "jobs":
        content["jobs"] = []
    else:
        (job if left_out == "config" else job["config"]).pop(left_out)
    files.write_json(copy / "manifest.json", content)
    for command in ("game", "verify"):
        assert main([command, str(copy)]) == 2
    assert "Traceback" not in capsys.readouterr().err


def test_a_submission_and_answers_show_no_secret(copy, capsys):
    root = copy.parents[2]
    attack = ", ".join(attacks(copy))
    about: dict[str, Any] = dict.fromkeys(
        ("suite_sha256", "licence", "reference", "axiom_bench", "git_commit"), attack
    )
    about |= {
        "method": "a.b",
        "suite": "scenes-1",
        "distributions": {attack: attack},
        "files": {attack: attack},
    }
    (root / "private.json").write_text(json.dumps({SECRET: SECRET}))
    answers = answers_of(root, attack)
    (answers / "2.json").symlink_to(root / "private.json")
    (root / "theirs").mkdir()
    for suite in ("scenes-1", attack):
        (root / "theirs/submission.json").write_text(json.dumps({**about, "suite": suite}))
        assert main(["verify", str(root / "theirs")]) == 2
    assert main(["leaderboard", str(root / "theirs"), "--output", str(root / "site")]) == 2
    assert (
        main(["submit", "grad_cam", "--suite", "scenes-1", "--output", str(root / "theirs")]) == 2
    )
    assert main(["game-score", str(answers)]) == 2
    printed = "".join(capsys.readouterr())
    assert "is of another suite scenes-1" in printed
    assert SECRET not in printed
    assert not [name for name in leaked(copy) if "private.json" not in name]


def test_a_combination_names_only_files_whose_hash_it_knows(copy, made_run, tmp_path):
    """A stranger's combination could otherwise put pictures of a run of yours into its report."""
    folder = tmp_path / "combined"
    combining.combine([copy, made_run], folder)
    assert len(ab.read_run(folder)) == len(ab.read_run(copy))
    content = entries_of(folder)
    (pictures,) = content["pictures"]
    for known in ({}, {pictures: ""}, {pictures: content["sha256"][pictures][:8]}):
        hashes = {name: digits for name, digits in content["sha256"].items() if name != pictures}
        files.write_json(folder / "manifest.json", {**content, "sha256": hashes | known})
        with pytest.raises(BenchError, match=r"has no hash of .*combine them again"):
            ab.read_run(folder)


def test_a_submission_that_is_a_link_is_not_read(tmp_path):
    (tmp_path / "private.json").write_text(json.dumps({SECRET: 1}))
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs/submission.json").symlink_to(tmp_path / "private.json")
    with pytest.raises(BenchError, match="is no plain file") as refusal:
        submissions.read(tmp_path / "theirs")
    assert SECRET not in str(refusal.value)
