"""The bibliography: how works are cited, and that no key stands there twice."""

from __future__ import annotations

import pytest

from axiom_bench.errors import BenchError
from axiom_bench.run import references

ENTRY = r"""
@misc{doe2031brightest,
  title = {The {Brightest} Channel},
  author = {Doe, Jane and R{\"o}e, Richard},
  year = {2031},
  eprint = {3101.00001},
}
"""


def test_a_work_of_two_authors():
    reference = references.parse(ENTRY)["doe2031brightest"]
    assert reference.cited == "Doe and Röe 2031, arXiv:3101.00001"
    assert reference.title == "The Brightest Channel"
    assert reference.url == "https://arxiv.org/abs/3101.00001"


def test_three_authors_are_the_first_and_others():
    text = ENTRY.replace("Richard}", "Richard and Poe, Edgar}").replace("eprint = {3101.00001}", "doi = {10.1/2}")
    reference = references.parse(text)["doe2031brightest"]
    assert (reference.cited, reference.url) == ("Doe et al. 2031, doi:10.1/2", "https://doi.org/10.1/2")


def test_without_a_link():
    reference = references.parse(ENTRY.replace("eprint", "note"))["doe2031brightest"]
    assert (reference.cited, reference.url) == ("Doe and Röe 2031", "")


def test_a_key_that_stands_there_twice_is_refused():
    with pytest.raises(BenchError, match="two entries 'doe2031brightest'"):
        references.parse(ENTRY + ENTRY)


def test_the_nearest_key_is_named():
    with pytest.raises(BenchError, match="did you mean 'fu2020axiom'"):
        references.get("fu2020axioms")
