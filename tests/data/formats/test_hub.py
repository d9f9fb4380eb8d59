"""Data sets on the Hugging Face Hub, named by data.path=hf://datasets/OWNER/NAME/...

A local server plays the Hub.
"""

import hashlib
import io
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlparse

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from axiom_bench.data.embedded import Scenes
from axiom_bench.data.formats import urls
from axiom_bench.data.formats.files import files_named
from axiom_bench.errors import BenchError

hub = pytest.importorskip("huggingface_hub.constants", reason="huggingface_hub isn't installed")
REVISION = "0123456789abcdef0123456789abcdef01234567"

REPOSITORY = "owner/images"
URL = f"hf://datasets/{REPOSITORY}"
FILES = [f"data/validation-{number:05d}-of-00002.parquet" for number in range(2)]


class Hub(BaseHTTPRequestHandler):
    """A Hub of one data set, whose files are below `root`."""

    root: Path

    def do_GET(self) -> None:
        url = urlparse(self.path)
        parts = unquote(url.path).strip("/").split("/")
        if parts[:4] == ["api", "datasets", *REPOSITORY.split("/")]:
            resource, *path = parts[4:] or ["revision"]
            folder = self.root.joinpath(*path[1:])
            if resource == "tree" and folder.is_dir():
                is_deep = parse_qs(url.query).get("recursive") == ["true"]
                paths = sorted(folder.rglob("*") if is_deep else folder.iterdir())
                self.answer([self.entry(path) for path in paths])
                return
            if resource == "revision":
                self.answer({"id": REPOSITORY, "sha": REVISION, "siblings": []})
                return
        file = self.root.joinpath(*parts[5:])
        if parts[0] == "datasets" and file.is_file():
            etag = f'"{self.entry(file)["oid"]}"'
            self.answer(file.read_bytes(), headers={"ETag": etag})
        else:
            self.answer({"error": "not found"}, 404, {"X-Error-Code": "EntryNotFound"})

    do_HEAD = do_GET

    def entry(self, path: Path) -> dict[str, object]:
        name = path.relative_to(self.root).as_posix()
        if path.is_dir():
            return {"type": "directory", "path": name, "oid": "0" * 40, "size": 0}
        content = path.read_bytes()
        return {
            "type": "file",
            "path": name,
            "oid": hashlib.sha1(content).hexdigest(),
            "size": len(content),
        }

    def answer(
        self,
        content: object,
        code: int = 200,
        headers: dict[str, str] | None = None,
    ) -> None:
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(code)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("X-Repo-Commit", REVISION)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Print nothing."""


def write_scenes(root: Path) -> None:
    """Write eight scenes in two Parquet files, with the classes' names in the Hub's form."""
    scenes = Scenes(size=8)
    features = {"label": {"names": list(scenes.classes), "_type": "ClassLabel"}}
    metadata = {"huggingface": json.dumps({"info": {"features": features}})}
    (root / "data").mkdir(parents=True)
    for number, name in enumerate(FILES):
        rows = []
        for index in range(4 * number, 4 * number + 4):
            sample = scenes.read(index)
            content = io.BytesIO()
            sample.image.save(content, "PNG")
            image = {"bytes": content.getvalue(), "path": f"{index}.png"}
            rows.append({"image": image, "label": sample.label})
        table = pa.Table.from_pylist(rows).replace_schema_metadata(metadata)
        pq.write_table(table, root / name)


@pytest.fixture
def hub_files(tmp_path, monkeypatch) -> Iterator[Path]:
    """The folder of the data set's files."""
    root = tmp_path / "hub"
    write_scenes(root)
    handler = type("HubOfThisFolder", (Hub,), {"root": root})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()

    address = f"http://127.0.0.1:{server.server_address[1]}"
    monkeypatch.setattr(hub, "ENDPOINT", address)  # HF_ENDPOINT is read only at the import
    template = hub.HUGGINGFACE_CO_URL_TEMPLATE.partition("/{")[2]
    monkeypatch.setattr(hub, "HUGGINGFACE_CO_URL_TEMPLATE", f"{address}/{{{template}")
    monkeypatch.setattr(hub, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setenv(urls.CACHE, str(tmp_path / "cache"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    yield root
    server.shutdown()
    server.server_close()


def names(path: str) -> list[str]:
    return list(files_named(path, ".parquet"))


def test_a_folder_a_pattern_or_a_file_names_the_files(hub_files):
    stems = [Path(name).stem for name in FILES]
    assert names(f"{URL}/data") == stems
    assert names(f"{URL}/data/validation-*.parquet") == stems
    assert names(f"{URL}/{FILES[0]}") == stems[:1]
    assert names(URL) == [name.removesuffix(".parquet") for name in FILES]
    with pytest.raises(BenchError, match=f"Can't use {URL}/absent .*: there is no such file"):
        names(f"{URL}/absent")


def test_a_file_that_was_changed_and_has_the_same_size_is_fetched_again(hub_files):
    """Check that the id of a file's content counts, which the Hub reports with its size."""
    names(f"{URL}/{FILES[0]}")
    content = bytearray((hub_files / FILES[0]).read_bytes())
    content[len(content) // 2] ^= 1
    (hub_files / FILES[0]).write_bytes(content)
    (copy,) = files_named(f"{URL}/{FILES[0]}", ".parquet").values()
    assert copy.read_bytes() == content
