"""Which code decides a value, and that a key is the same on machines that are laid out differently."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

from axiom_bench.records import sources
from axiom_bench.records.sources import Code, Sources


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user's module that imports a helper beside it."""
    (tmp_path / "users_cam.py").write_text("import users_helper\nimport json\n\ndef cam(trace): ...\n")
    (tmp_path / "users_helper.py").write_text("FACTOR = 1\n")
    (tmp_path / "users_other.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def code(*names: str) -> Code:
    for module in [name for name in sys.modules if name.startswith("users_")]:
        del sys.modules[module]
    importlib.invalidate_caches()  # files that were written just now
    sources.version_of.cache_clear()
    sources._distributions_of_packages.cache_clear()
    return Sources().of(names)


def test_a_helper_is_part_of_a_plugin_and_an_unrelated_module_is_not(folder: Path):
    before = code("users_cam")
    (folder / "users_other.py").write_text("FACTOR = 20\n")
    assert code("users_cam") == before
    (folder / "users_helper.py").write_text("FACTOR = 20\n")
    assert code("users_cam") != before


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ('"""What it is."""\n\n\nFACTOR = 1  # a comment\n', True),
        ("FACTOR = (\n    1\n)\n", True),
        ("FACTOR = 1.5\n", False),
        ('FACTOR = 1\nTEXT = """No docstring."""\n', False),
    ],
)
def test_comments_docstrings_and_formatting_dont_count(folder: Path, text: str, same: bool):
    before = code("users_cam")
    (folder / "users_helper.py").write_text(text)
    assert (code("users_cam") == before) == same


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
def test_a_package_of_the_users_counts_by_source(folder: Path, statement: str):
    (folder / "users_package").mkdir()
    (folder / "users_package/__init__.py").write_text("")
    (folder / "users_package/helper.py").write_text("from .deep import factor\n")
    (folder / "users_package/deep.py").write_text("factor = 1\n")
    (folder / "users_cam.py").write_text(statement + "\n")
    before = code("users_cam")
    (folder / "users_package/deep.py").write_text("factor = 20\n")
    after = code("users_cam")
    assert after != before
    (folder / "users_package/__init__.py").write_text("import users_helper\n")
    assert code("users_cam") != after
    assert "users_package" not in sys.modules  # nothing is imported for it


def test_an_import_for_type_checkers_alone_does_not_count(folder: Path):
    (folder / "users_cam.py").write_text(
        "from typing import TYPE_CHECKING\n\nif TYPE_CHECKING:\n    import users_helper\n"
    )
    before = code("users_cam")
    (folder / "users_helper.py").write_text("FACTOR = 20\n")
    assert code("users_cam") == before


def test_a_docstring_in_a_block_does_not_count(folder: Path):
    text = "try:\n    class Cam:\n        {}\n        factor = 1\nexcept ImportError:\n    pass\n"
    (folder / "users_cam.py").write_text(text.format('"""One."""'))
    before = code("users_cam")
    (folder / "users_cam.py").write_text(text.format('"""Another."""'))
    assert code("users_cam") == before


def test_packages_have_the_distributions_that_the_standard_library_finds():
    """Which parses the whole of each file that is read here line by line."""
    packages = sources._distributions_of_packages()
    expected = {top: set(names) for top, names in packages_distributions().items() if top.isidentifier()}
    assert {"torch", "PIL", "yaml"} <= expected.keys()
    assert {top: {entry.metadata["Name"] for entry in packages[top]} for top in expected} == expected


def test_a_module_that_is_named_counts_in_whatever_room_it_is():
    """A step of the run may name its own code; what that imports of rooms that don't compute stays out."""
    reached = Sources()
    digest = reached.of(["axiom_bench.records.files"]).sha256
    assert digest != Sources().of([]).sha256
    names = {name for name, imported in reached._imported.items() if imported.code is not None}
    assert names == {"axiom_bench.records.files"}


def install(site: Path, version: str = "1.0", direct_url: dict | None = None, source: Path | None = None) -> None:
    """The distribution users-dist, whose package users_dist lies in `source`, else beside its metadata."""
    metadata = site / f"users_dist-{version}.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: users-dist\nVersion: {version}\n")
    (metadata / "top_level.txt").write_text("users_dist\n")
    (metadata / "RECORD").write_text("" if source else "users_dist/__init__.py,,\n")
    if direct_url:
        (metadata / "direct_url.json").write_text(json.dumps({"url": "file:///x", **direct_url}))
    package = (source or site) / "users_dist"
    package.mkdir(parents=True, exist_ok=True)
    (package / "__init__.py").write_text("FACTOR = 1\n")


def test_an_installed_package_counts_by_its_version(folder: Path, tmp_path: Path):
    (folder / "users_cam.py").write_text("import users_dist\n")
    install(tmp_path)
    before = code("users_cam")
    assert before.versions == (("users-dist", "1.0"),)
    (tmp_path / "users_dist/__init__.py").write_text("FACTOR = 20\n")
    assert code("users_cam") == before
    (tmp_path / "users_dist-1.0.dist-info/METADATA").write_text(
        "Metadata-Version: 2.1\nName: users-dist\nVersion: 2.0\n"
    )
    assert code("users_cam").versions == (("users-dist", "2.0"),)


def test_an_editable_package_counts_by_its_source(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (folder / "users_cam.py").write_text("import users_dist\n")
    install(tmp_path / "site", direct_url={"dir_info": {"editable": True}}, source=tmp_path / "checkout")
    monkeypatch.syspath_prepend(tmp_path / "site")
    monkeypatch.syspath_prepend(tmp_path / "checkout")
    before = code("users_cam")
    assert before.versions == ()
    (tmp_path / "checkout/users_dist/__init__.py").write_text("FACTOR = 20\n")
    assert code("users_cam") != before


@pytest.mark.parametrize(
    ("direct_url", "by_version"),
    [({"dir_info": {}}, False), ({"vcs_info": {"vcs": "git"}}, False), ({"archive_info": {}}, True)],
)
def test_what_was_installed_from_a_folder_or_a_repository_counts_by_its_source(
    folder: Path, tmp_path: Path, direct_url: dict, by_version: bool
):
    (folder / "users_cam.py").write_text("import users_dist\n")
    install(tmp_path, direct_url=direct_url)
    before = code("users_cam")
    assert bool(before.versions) == by_version
    (tmp_path / "users_dist/__init__.py").write_text("FACTOR = 20\n")
    assert (code("users_cam") == before) == by_version


def test_a_folder_that_hides_an_installed_package_counts_by_source(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (folder / "users_cam.py").write_text("import users_dist\n")
    install(tmp_path / "site")
    monkeypatch.syspath_prepend(tmp_path / "site")
    assert code("users_cam").versions == (("users-dist", "1.0"),)
    (folder / "users_dist.py").write_text("FACTOR = 1\n")
    monkeypatch.syspath_prepend(folder)
    assert code("users_cam").versions == ()


def test_libraries_count_by_version():
    libraries = code("torch.nn.modules.conv", "json", "timm.models.resnet")
    assert [name for name, _ in libraries.versions] == ["timm", "torch"]
    assert libraries.sha256 == code("json").sha256


LAYOUT = """
import json, sys, time
start = time.perf_counter()
import axiom_bench.evaluation.shard
from axiom_bench.records import sources
code = sources.Sources().of(["axiom_bench.evaluation.shard", "users_cam"])
print(json.dumps([code.sha256, code.versions, sources._parsed.cache_info().misses]))
"""


@pytest.mark.slow
def test_where_libraries_lie_doesnt_count(folder: Path, tmp_path: Path):
    """torch found through a path file, as with --system-site-packages and pip --user: the key is the same, and no file
    of a library is read."""
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
        answers.append(json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout))
    assert answers[0] == answers[1]
    assert answers[0][2] < 120
    assert "torch" in dict(answers[0][1])


def test_only_rooms_that_compute_count():
    reached = Sources()
    reached.of(["axiom_bench.evaluation.shard", "axiom_bench.metrics.box_iou"])
    names = {name for name, imported in reached._imported.items() if imported.code is not None}
    assert {"axiom_bench.cutting.trace", "axiom_bench.metrics.box_iou"} <= names
    rooms = {name.split(".")[1] for name in names}
    assert rooms <= sources.ROOMS
    assert not any(name.startswith(("axiom_bench.run", "axiom_bench.report", "axiom_bench.records")) for name in names)
