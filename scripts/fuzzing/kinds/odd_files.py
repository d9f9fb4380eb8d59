"""What may stand in a folder of images beside images: other things of their name, and images of odd names."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path

from ..case import Case
from .pictures import Made, encoded, random_pixels

NAMES = (
    b"caf\xe9.png", b"\xff\xfe.png", b"two\nlines.png", b"$x$.png", b"%s%n.png", b"<b>.png", b"-r.png", b"=1+1.png",
    b"\\xe9.png", b"\\x5cxe9.png", b"\x1b[31m.png", b"{{x}}.png", b"'\".png", b" .png", b"a" * 251 + b".png",
    "\u202egnp.png".encode(), "e\u0301.PNG".encode(), b"*.png", b"a.b.c.png", b"a\\b.png", b"\x7f\x80.png",
)  # fmt: skip


def no_file(case: Case) -> Made:
    what = case.random.choice(sorted(OTHERS))
    OTHERS[what](case.folder / "class" / "x.jpg")
    return Made(b"x.jpg", what, must_be_bad=True)


def odd_name(case: Case) -> Made:
    name, pixels = case.random.choice(NAMES), random_pixels(case.random)
    with open(os.path.join(os.fsencode(case.folder / "class"), name), "wb") as file:
        file.write(encoded(pixels, "PNG"))
    return Made(name, f"called {name!r}", pixels, may_be_bad=False)


def _socket(path: Path) -> None:
    before = os.getcwd()
    os.chdir(path.parent)  # a socket's path may have 107 characters
    try:
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind(path.name)
    finally:
        os.chdir(before)


OTHERS: dict[str, Callable[[Path], None]] = {
    "a named pipe": os.mkfifo,
    "a folder": Path.mkdir,
    "a socket": _socket,
    "a link to a device": lambda path: path.symlink_to("/dev/zero"),
    "a link to nothing": lambda path: path.symlink_to("gone.jpg"),
    "a link to itself": lambda path: path.symlink_to("x.jpg"),
    "a link to its folder": lambda path: path.symlink_to("../class"),
    "no bytes": Path.touch,
}
