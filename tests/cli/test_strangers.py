"""Tests of a stranger's run folders, baselines, submissions and answers.

They can bring expressions that would be resolved, and paths that would be read. No command shows
the secret that such an expression or path leads to.
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
from axiom_bench.cli.trust import NOT_PATHS, trusted_settings
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
    overrides = [
        "model=scenes_vgg",
        "method=[grad_cam,xgrad_cam]",
        f"metric=[{','.join(METRICS)}]",
        "data.size=24",
        "runtime.repeats=0",
        "pictures.rows=1",
        "pictures.gallery=2",
        "device=cpu",
        f"results={results}",
    ]
    settings, outcomes = run_jobs(overrides)
    assert keep(settings, outcomes) is not None
    return settings.run_folder


@pytest.fixture
def copy(made_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A stranger's copy of the run, next to a secret in a file and one in the environment."""
    monkeypatch.setenv("OUR_SECRET", SECRET)
    secret_lines = "".join(f"{SECRET} {line}\n" for line in range(10))
    (tmp_path / "secret.txt").write_text(secret_lines)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    folder = shutil.copytree(made_run, tmp_path / "results" / "quick" / "scenes_vgg")
    (folder / "link.txt").symlink_to(tmp_path / "secret.txt")
    return folder


def attacks(folder: Path) -> tuple[str, ...]:
    """Return texts that lead to a secret, either as an expression or as a path."""
    secret = folder.parents[2] / "secret.txt"
    return (
        *EXPRESSIONS,
        str(secret),
        "../secret.txt",
        f"file://{secret}",
        str(folder / "link.txt"),
    )


def leaked(folder: Path) -> list[str]:
    """Return the files of the test's folder that contain the secret, except the secret itself."""
    root = folder.parents[2]
    written = [path for path in root.rglob("*") if path.is_file() and not path.is_symlink()]
    others = [path for path in written if path.name != "secret.txt"]
    return [str(path) for path in others if SECRET.encode() in path.read_bytes()]


def set_everywhere(folder: Path, group: str, key: str, value: Any) -> None:
    """Change one setting in all configurations of a manifest."""
    content = files.read_json(folder / "manifest.json")
    content["config"][group][key] = value
    for job in content["jobs"]:
        job["config"][group][key] = value
    files.write_json(folder / "manifest.json", content)


SETTINGS = [
    ("model", "name"),
    ("model", "architecture"),
    ("model", "weights"),
    ("model", "weights_folder"),
    ("model", "classes"),
    ("model", "output"),
    ("model", "finetuned"),
    ("model", "inputs"),
    ("model", "read"),
    ("model", "reshape"),
    ("model", "layer"),
    ("model", "kwargs"),
    ("data", "root"),
    ("data", "path"),
    ("data", "classes"),
    ("data", "labels"),
    ("data", "split"),
    ("data", "cache"),
    ("data", "kwargs"),
]


@pytest.mark.slow
@pytest.mark.parametrize("number", range(len(SETTINGS)))
def test_no_setting_of_a_run_leads_to_a_secret(copy, number, capsys):
    group, key = SETTINGS[number]
    paths = attacks(copy)[len(EXPRESSIONS) :]
    expression = EXPRESSIONS[number % len(EXPRESSIONS)]
    path = paths[number % len(paths)]

    for value in (expression, path, {"deep": [path]}):
        set_everywhere(copy, group, key, value)
        assert main(["game", str(copy)]) == 2
        if value == expression and group == "model":
            assert main(["verify", str(copy), "--trust"]) == 2
            assert main(["game", str(copy), "--trust"]) == 2
        elif key not in NOT_PATHS:
            assert main(["verify", str(copy)]) == 2

    assert SECRET not in "".join(capsys.readouterr())
    assert not leaked(copy)


def empty_groups() -> dict[str, Any]:
    return {"model": {}, "data": {}, "method": {}, "metric": {}}


@pytest.mark.slow
def test_a_finished_run_holds_no_expression_and_no_file_without_trust(copy):
    (job,) = files.read_json(copy / "manifest.json")["jobs"]
    config = job["config"]
    trusted_settings(config, is_trusted=False)

    with_expression = {**config, "model": {"kwargs": {"a": ["${oc.env:OUR_SECRET}"]}}}
    message = r"an expression, model\.kwargs\.a\.0=\$\{oc\.env:OUR_SECRET\}"
    for is_trusted in (False, True):
        with pytest.raises(BenchError, match=message):
            trusted_settings(with_expression, is_trusted)

    groups_by_case = {
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
    for groups in groups_by_case.values():
        with pytest.raises(BenchError, match=r"names files of this machine, .* Add --trust"):
            trusted_settings(empty_groups() | groups, is_trusted=False)

    # Names with a slash aren't paths.
    model = {**config["model"], "name": "a/b", "classes": ["cat/dog"]}
    data = {**config["data"], "leave_out": ["n01/1.JPEG"]}
    trusted_settings({**config, "model": model, "data": data}, is_trusted=False)


@pytest.mark.parametrize("group", ["model", "data", "method", "metric"])
@pytest.mark.parametrize("value", ["/etc/hosts", ["a"], None])
def test_a_group_of_another_type_is_refused(group, value):
    with pytest.raises(BenchError, match=f"{group} is a group of settings"):
        trusted_settings({**empty_groups(), group: value}, is_trusted=False)


FREE_ENTRIES = (  # entries of a manifest whose text changes no computation
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


def replace_texts(value: Any, texts: Iterator[str], is_free: bool = False) -> Any:
    """Return the value with an attack in place of each text of the free entries."""
    if isinstance(value, str):
        return next(texts) if is_free else value
    if isinstance(value, list):
        return [replace_texts(entry, texts, is_free) for entry in value]
    if isinstance(value, dict):
        replaced = {}
        for key, entry in value.items():
            replaced[key] = replace_texts(entry, texts, is_free or key in FREE_ENTRIES)
        return replaced
    return value


def write_answers(folder: Path, attack: str) -> Path:
    """Write a player's answers with attacks in them, and return their folder."""
    answer = {
        "trial": 0,
        "kind": "part",
        "image": attack,
        "method": attack,
        "title": attack,
        "class_index": 0,
        "class": attack,
        "answer_index": 0,
        "answer": attack,
        "correct": 1,
        "milliseconds": 500,
    }
    content = {
        "format": 1,
        "game": attack,
        "model": attack,
        "layer": "l",
        "data": "d",
        "weights": "w",
        "share": "0.2",
        "checks_needed": 0,
        "player": 1,
        "answers": [answer],
    }
    file = folder / "answers" / "1.json"
    files.write_json(file, content)
    return file.parent


@pytest.mark.slow
def test_commands_that_only_read_show_no_secret(copy, made_run, capsys, undrawn):
    root = copy.parents[2]
    texts = attacks(copy)
    attack = ", ".join(texts)
    baseline = str(write_baseline(made_run, root / "own.csv"))
    content = replace_texts(files.read_json(copy / "manifest.json"), cycle(texts))
    files.write_json(copy / "manifest.json", content)
    lines = [f"# {attack}: {attack}", f"# history: {attack}", f"# values by image: {attack}"]
    lines.append(Path(baseline).read_text())
    bad_baseline = root / "theirs.csv"
    bad_baseline.write_text("\n".join(lines))
    output = root / "out"
    answers = str(write_answers(output, attack))
    run = str(copy)
    own_run = str(made_run)

    codes = [
        main(["gate", run, "--baseline", baseline, "--markdown", f"{output}/a.md"]),
        main(["gate", own_run, "--baseline", str(bad_baseline), "--json", f"{output}/a.json"]),
        main(["compare", run, own_run]),
        main(["judge", run, "--truth", run]),
        main(["report", run, own_run, "--output", f"{output}/combined"]),
        main(["game-score", answers, "--output", f"{output}/score.md"]),
    ]
    write = ["gate", run, "--baseline", f"{output}/new.csv", "--write", "--reason", "new"]

    assert set(codes) <= {0, 1, 2}
    assert main(["status", run]) == 0
    assert main(write) == 0
    assert main(["report", run]) == 0
    assert len(ab.read_run(run)) > 0
    assert SECRET not in "".join(capsys.readouterr())
    assert not leaked(copy)


@pytest.mark.parametrize("left_out", ["config", "model", "device", "jobs"])
def test_a_manifest_that_lacks_settings_is_refused(copy, left_out, capsys):
    content = files.read_json(copy / "manifest.json")
    (job,) = content["jobs"]
    if left_out == "jobs":
        content["jobs"] = []
    elif left_out == "config":
        del job["config"]
    else:
        del job["config"][left_out]
    files.write_json(copy / "manifest.json", content)

    for command in ("game", "verify"):
        assert main([command, str(copy)]) == 2
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.slow
def test_a_submission_and_answers_show_no_secret(copy, capsys):
    root = copy.parents[2]
    attack = ", ".join(attacks(copy))
    content = {
        "suite_sha256": attack,
        "licence": attack,
        "reference": attack,
        "axiom_bench": attack,
        "git_commit": attack,
        "method": "a.b",
        "distributions": {attack: attack},
        "files": {attack: attack},
    }
    (root / "private.json").write_text(json.dumps({SECRET: SECRET}))
    answers = write_answers(root, attack)
    (answers / "2.json").symlink_to(root / "private.json")
    submission = root / "theirs"
    submission.mkdir()

    for suite in ("scenes-1", attack):
        text = json.dumps({**content, "suite": suite})
        (submission / "submission.json").write_text(text)
        assert main(["verify", str(submission)]) == 2
    assert main(["leaderboard", str(submission), "--output", str(root / "site")]) == 2
    submit = ["submit", "grad_cam", "--suite", "scenes-1", "--output", str(submission)]
    assert main(submit) == 2
    assert main(["game-score", str(answers)]) == 2

    printed = "".join(capsys.readouterr())
    assert "is of another suite scenes-1" in printed
    assert SECRET not in printed
    assert not [name for name in leaked(copy) if "private.json" not in name]


def test_a_combination_names_only_files_whose_hash_it_knows(copy, made_run, tmp_path):
    """Check the hashes of pictures.

    Otherwise a stranger's combination could put pictures of a user's run into its report.
    """
    folder = tmp_path / "combined"
    combining.combine([copy, made_run], folder)
    assert len(ab.read_run(folder)) == len(ab.read_run(copy))

    content = entries_of(folder)
    (pictures,) = content["pictures"]
    hash_by_name = content["sha256"]
    pictures_hash = hash_by_name.pop(pictures)
    for known in ({}, {pictures: ""}, {pictures: pictures_hash[:8]}):
        files.write_json(folder / "manifest.json", {**content, "sha256": hash_by_name | known})
        with pytest.raises(BenchError, match=r"has no hash of .*combine them again"):
            ab.read_run(folder)


def test_a_submission_that_is_a_link_is_not_read(tmp_path):
    (tmp_path / "private.json").write_text(json.dumps({SECRET: 1}))
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs/submission.json").symlink_to(tmp_path / "private.json")
    with pytest.raises(BenchError, match="isn't a plain file") as refusal:
        submissions.read(tmp_path / "theirs")
    assert SECRET not in str(refusal.value)
