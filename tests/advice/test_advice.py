"""Advice works: a refusal's setting, command or function, applied literally to the input that
caused it, helps.
"""

from __future__ import annotations

import pytest

from tests.advice import audit, commands, compat, data, methods, models, objects, python, settings  # noqa: F401 - they register situations
from tests.advice.refusals import advising, refusal_with
from tests.advice.unfollowed import UNFOLLOWED
from tests.advice.user import FOLLOWED, SITUATIONS, User
from tests.made_runs import undraw

LEAST = 0.6  # share of the refusals whose advice is followed


@pytest.fixture(scope="session")
def run_cache(tmp_path_factory):
    return tmp_path_factory.mktemp("runs")


@pytest.mark.slow
@pytest.mark.parametrize("name", SITUATIONS)
def test_advice_helps_when_it_is_followed(name, tmp_path, typed_here, monkeypatch, run_cache):
    refusal = refusal_with(FOLLOWED[name])
    undraw(monkeypatch)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    user = User(tmp_path, typed_here, monkeypatch, run_cache)
    SITUATIONS[name](user)
    places = [f"{place.place if place else 'elsewhere'}: {text}" for place, text in user.errors]
    assert user.has_caused(refusal), f"the situation no longer causes {refusal.place}, but {places}"


def test_every_advice_is_followed_or_has_a_reason(capsys):
    followed = {refusal_with(words) for words in FOLLOWED.values()}
    reasons = {refusal_with(words): reason for words, reason in UNFOLLOWED.items()}
    both = [refusal.place for refusal in reasons if refusal in followed]
    neither = [
        f"{refusal.place}: {refusal.text}"
        for refusal in advising()
        if refusal not in followed | reasons.keys()
    ]
    with capsys.disabled():
        print(
            f"\n{len(advising())} refusals advise a setting, a command or a function; "
            f"{len(followed)} are followed."
        )
        print("The others:")
        for refusal, reason in reasons.items():
            print(f"  {refusal.place}: {refusal.advice.strip()} ({reason})")
    assert not both, f"these are followed, and need no reason in tests/advice/unfollowed.py: {both}"
    assert not neither, (
        f"write a situation that follows each, or a reason in tests/advice/unfollowed.py: {neither}"
    )
    assert len(followed) >= LEAST * len(advising())
