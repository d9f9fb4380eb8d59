"""Advice of `axiom-bench audit` and of the files that it reads."""

from __future__ import annotations

import json

from tests.advice.user import User, advice_in, follows


@follows("Give what to audit: axiom-bench audit my_module:my_cam")
def audit_nothing(user: User) -> None:
    option = advice_in(user.refusal(["audit"]), r"or (--export kit) for")
    user.types(["audit", *option.split()])


@follows("isn't an empty folder; give --export another one")
def export_into_a_folder_with_files(user: User) -> None:
    user.write("kit/mine.txt", "mine")
    option = advice_in(user.refusal(["audit", "--export", "kit"]), r"give (--export) another")
    user.types(["audit", option, "another"])


@follows("{index} can't be used: ")
def audit_a_kit_of_another_version(user: User) -> None:
    user.write("kit/cases.json", json.dumps({"networks": "other"}))
    (user.folder / "kit/maps").mkdir()
    message = user.refusal(["audit", "kit/maps"])
    command = advice_in(message, r"new kit: axiom-bench (audit --export FOLDER)\.").split()
    user.types([*command[:-1], "new"])
    assert "Maps are missing" in user.refusal(["audit", "new/maps"])
