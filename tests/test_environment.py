"""The memory that is free, as Linux and a container report it."""

import pytest

from axiom_bench import environment

MEMINFO = "MemTotal:       24000000 kB\nMemFree:         1000000 kB\nMemAvailable:   16000000 kB\n"


@pytest.mark.parametrize(
    ("limit", "expected"),
    [
        (None, 16000000 * 1024),  # no container
        ("max", 16000000 * 1024),
        ("8000000000", 8000000000 - 3000000000),
        ("90000000000", 16000000 * 1024),
    ],
)
def test_the_smaller_of_free_memory_and_a_containers_rest(tmp_path, monkeypatch, limit, expected):
    (tmp_path / "meminfo").write_text(MEMINFO)
    if limit is not None:
        (tmp_path / "memory.max").write_text(f"{limit}\n")
        (tmp_path / "memory.stat").write_text("file 5000000000\nanon 3000000000\nanon_thp 7\n")
    monkeypatch.setattr(environment, "MEMINFO", tmp_path / "meminfo")
    monkeypatch.setattr(environment, "CGROUP", tmp_path)
    assert environment.available_memory() == expected


def test_other_systems_report_no_free_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(environment, "MEMINFO", tmp_path / "meminfo")
    assert environment.available_memory() is None
