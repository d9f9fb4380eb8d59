"""Tests of the code that decides a value, and of keys that are the same on machines with different
folders.
"""

import importlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

from axiom_bench.records import sources
from axiom_bench.records.sources import Sources


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A user's module that imports a helper beside it."""
    (tmp_path / "users_cam.py").write_text(
        "import users_helper\nimport json\n\ndef cam(trace): ...\n"
    )
    (tmp_path / "users_helper.py").write_text("FACTOR = 1\n")
    (tmp_path / "users_other.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def code(*names):
    for module in [name for name in sys.modules if name.startswith("users_")]:
        del sys.modules[module]
    importlib.invalidate_caches()  # files that were written just now
    sources.version_of.cache_clear()
    return Sources().code_of(names)


def changes(file, text):
    """Return True if the code of users_cam changes when `file` gets this text."""
    before = code("users_cam")
    file.write_text(text)
    return code("users_cam") != before


@pytest.mark.parametrize(
    ("name", "text", "counts"),
    [
        ("helper", "FACTOR = 20\n", True),
        ("other", "FACTOR = 20\n", False),
        ("helper", '"""What it is."""\n\n\nFACTOR = 1  # a comment\n', False),
        ("helper", "FACTOR = (\n    1\n)\n", False),
        ("helper", 'FACTOR = 1\n"""Of what."""\n', False),
        ("helper", "FACTOR = 1.5\n", True),
        ("helper", 'FACTOR = 1\nTEXT = """No docstring."""\n', True),
    ],
)
def test_a_helper_counts_but_no_unrelated_module_comment_docstring_or_formatting(
    folder, name, text, counts
):
    assert changes(folder / f"users_{name}.py", text) == counts


@pytest.mark.parametrize(
    "statement",
    [
        "from users_package import helper",
        "from users_package.helper import factor",
        "import users_package.helper as h",
        "def cam(trace):\n    from users_package.helper import factor",
        "class Cam:\n    import users_package.helper",
        "try:\n    import users_package.helper\nexcept ImportError:\n    pass",
        "try:\n    import nowhere\nexcept ImportError:\n    import users_package.helper",
        "for _ in ():\n    pass\nelse:\n    import users_package.helper",
        "with open('x'):\n    import users_package.helper",
        "match 1:\n    case 1:\n        import users_package.helper",
    ],
)
def test_a_package_of_the_users_counts_by_source(folder, statement):
    package = folder / "users_package"
    package.mkdir()
    for name, text in (
        ("__init__", ""),
        ("helper", "from .deep import factor\n"),
        ("deep", "factor = 1\n"),
    ):
        (package / f"{name}.py").write_text(text)
    (folder / "users_cam.py").write_text(statement + "\n")
    assert changes(package / "deep.py", "factor = 20\n")
    assert changes(package / "__init__.py", "import users_helper\n")
    assert "users_package" not in sys.modules  # nothing is imported for it


def test_an_import_for_type_checkers_alone_and_a_docstring_in_a_block_do_not_count(folder):
    text = "from typing import TYPE_CHECKING\n\nif TYPE_CHECKING:\n    import users_helper\n"
    (folder / "users_cam.py").write_text(text)
    assert not changes(folder / "users_helper.py", "FACTOR = 20\n")
    text = "try:\n    class Cam:\n        {}\n        factor = 1\nexcept ImportError:\n    pass\n"
    (folder / "users_cam.py").write_text(text.format('"""One."""'))
    assert not changes(folder / "users_cam.py", text.format('"""Another."""'))


def counted(*names):
    """The modules whose code counts for these."""
    reached = Sources()
    reached.code_of(names)
    return {name for name, imported in reached._imported.items() if imported.code is not None}


def test_only_rooms_that_compute_count_and_a_module_that_is_named():
    """A step of the run may name its own code; what that imports of rooms that don't compute stays
    out.
    """
    assert counted("axiom_bench.records.files") == {"axiom_bench.records.files"}
    assert Sources().code_of(["axiom_bench.records.files"]).sha256 != Sources().code_of([]).sha256
    names = counted("axiom_bench.evaluation.shard", "axiom_bench.metrics.box_iou")
    assert {"axiom_bench.cutting.trace", "axiom_bench.metrics.box_iou"} <= names
    assert {name.split(".")[1] for name in names} <= sources.ROOMS
    assert not any(
        name.startswith(("axiom_bench.run", "axiom_bench.report", "axiom_bench.records"))
        for name in names
    )


def install(folder, site, direct_url=None):
    """The distribution users-dist, which users_cam imports: its METADATA and the package's file."""
    sources._distributions_of_packages.cache_clear()
    (folder / "users_cam.py").write_text("import users_dist\n")
    about = site / "users_dist-1.0.dist-info"
    package = site / "users_dist"
    for place in (about, package):
        place.mkdir(parents=True, exist_ok=True)
    (about / "METADATA").write_text(METADATA.format("1.0"))
    (about / "top_level.txt").write_text("users_dist\n")
    (about / "RECORD").write_text("users_dist/__init__.py,,\n")
    if direct_url:
        (about / "direct_url.json").write_text(json.dumps({"url": "file:///x", **direct_url}))
    (package / "__init__.py").write_text("FACTOR = 1\n")
    return about / "METADATA", package / "__init__.py"


METADATA = "Metadata-Version: 2.1\nName: users-dist\nVersion: {}\n"


@pytest.mark.slow
def test_an_installed_package_counts_by_its_version_unless_a_folder_hides_it(
    folder, tmp_path, monkeypatch
):
    metadata, package = install(folder, tmp_path / "site")
    monkeypatch.syspath_prepend(tmp_path / "site")
    assert code("users_cam").versions == (("users-dist", "1.0"),)
    assert not changes(package, "FACTOR = 20\n")
    assert changes(metadata, METADATA.format("2.0"))
    assert code("users_cam").versions == (("users-dist", "2.0"),)
    (folder / "users_dist.py").write_text("FACTOR = 1\n")
    monkeypatch.syspath_prepend(folder)
    assert code("users_cam").versions == ()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("direct_url", "by_version"),
    [
        ({"dir_info": {}}, False),
        ({"dir_info": {"editable": True}}, False),
        ({"vcs_info": {"vcs": "git"}}, False),
        ({"archive_info": {}}, True),
    ],
)
def test_what_was_installed_from_a_folder_or_a_repository_counts_by_its_source(
    folder, tmp_path, direct_url, by_version
):
    _, package = install(folder, tmp_path, direct_url)
    assert bool(code("users_cam").versions) == by_version
    assert changes(package, "FACTOR = 20\n") != by_version


def test_libraries_count_by_version():
    libraries = code("torch.nn.modules.conv", "json", "timm.models.resnet")
    assert [name for name, _ in libraries.versions] == ["timm", "torch"]
    assert libraries.sha256 == code("json").sha256


LAYOUT = """
import json, sys, time
start = time.perf_counter()
import axiom_bench.evaluation.shard
from axiom_bench.records import sources
code = sources.Sources().code_of(["axiom_bench.evaluation.shard", "users_cam"])
print(json.dumps([code.sha256, code.versions, sources._parsed.cache_info().misses]))
"""


@pytest.mark.slow
def test_where_libraries_lie_doesnt_count(folder, tmp_path):
    """Find torch through a path file, as with --system-site-packages and pip --user.

    The key is the same, and no file of a library is read.
    """
    site = Path(next(path for path in sys.path if path.endswith("site-packages")))
    (tmp_path / "elsewhere").mkdir()
    for entry in site.iterdir():
        if entry.suffix != ".pth":
            (tmp_path / "elsewhere" / entry.name).symlink_to(entry)
    editable = Path(sources.__file__).parents[2]
    answers = []
    for libraries in (site, tmp_path / "elsewhere"):
        paths = [str(folder), str(editable), str(libraries)]
        command = [sys.executable, "-S", "-c", f"import sys; sys.path += {paths}\n{LAYOUT}"]
        answers.append(
            json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
        )
    assert answers[0] == answers[1]
    assert answers[0][2] < 120
    assert "torch" in dict(answers[0][1])
