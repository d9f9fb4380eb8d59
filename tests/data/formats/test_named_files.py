"""Which files data.path names."""

import pytest

from axiom_bench.data.formats.files import files_named
from axiom_bench.errors import BenchError


@pytest.fixture
def root(tmp_path):
    for name in ("a-08.tar", "a-09.tar", "a-10.tar", "b/a-09.tar", "b/c.txt", "{odd}.tar"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.touch()
    return tmp_path


PATTERNS = {
    "": ["a-08", "a-09", "a-10", "b/a-09", "{odd}"],
    "a-09.tar": ["a-09"],
    "b/c.txt": ["c.txt"],
    "{odd}.tar": ["{odd}"],
    "a-{08..10}.tar": ["a-08", "a-09", "a-10"],
    "{b/a,a}-{09,10}.tar": None,
    "a-{10,08}.tar": ["a-08", "a-10"],
    "a-{0,1}[0-8].tar": ["a-08", "a-10"],
    "a-*.tar": ["a-08", "a-09", "a-10"],
}


@pytest.mark.parametrize("pattern", PATTERNS)
def test_files_of_a_path(root, pattern):
    expected = PATTERNS[pattern]
    if expected is None:
        with pytest.raises(BenchError, match=r"there is no file .*b/a-10\.tar"):
            files_named(f"{root}/{pattern}", ".tar")
        return
    found = files_named(f"{root}/{pattern}", ".tar")
    assert list(found) == expected
    assert all(path.is_file() for path in found.values())


def test_a_list_names_each_file_once(root):
    assert list(files_named([f"{root}/a-1*.tar", f"{root}/a-{{08..10}}.tar"], ".tar")) == ["a-08", "a-09", "a-10"]


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("gone.tar", r"data\.path: there is no file .*gone\.tar; give a file, a folder, a list or a pattern"),
        ("c-*.tar", "there is no file .*c-"),
        ("a-{08..11}.tar", "there is no file .*a-11"),
        ("a-{0..99999999999999}.tar", "is no range of at most 100,000 numbers"),
        ("a-{0..999}{0..999}.tar", "names 1,000,000 files, more than 100,000"),
        ("a-{9..0}.tar", "is no range"),
    ],
)
def test_what_names_no_files_is_a_sentence(root, pattern, message):
    with pytest.raises(BenchError, match=message):
        files_named(f"{root}/{pattern}", ".tar")


def test_two_files_of_one_name_are_a_sentence(root):
    with pytest.raises(BenchError, match=r"names two files 'a-09', .*; rename one, or give the folder that holds both"):
        files_named([f"{root}/a-09.tar", f"{root}/b/a-09.tar"], ".tar")
    with pytest.raises(BenchError, match=r"no file whose name ends in \.parquet below"):
        files_named(str(root), ".parquet")
