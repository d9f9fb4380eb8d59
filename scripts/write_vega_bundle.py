"""The JavaScript that draws the charts of report.html: Vega, Vega-Lite and vega-embed in one file, with their licences.

`python scripts/write_vega_bundle.py` writes bench/report/page/static/vega_bundle.js and vega_bundle.licences.txt again.
It needs `pip install vl-convert-python`, which compiles the bundle (84 MB, too many for a dependency), and npm, which
downloads the packages that the licences are read from.
"""

from __future__ import annotations

import subprocess
import tempfile
from collections import defaultdict
from pathlib import Path

import altair

FOLDER = Path(__file__).resolve().parents[1] / "bench" / "report" / "page" / "static"
VEGA_LITE = altair.SCHEMA_VERSION.removeprefix("v")  # "6.4.1"
# In the bundle; what npm downloads beside them is for command lines.
BUNDLED = ("vega", "d3-", "topojson-client", "delaunator", "robust-predicates", "internmap", "fast-json-patch",
           "json-stringify-pretty-compact", "lodash.debounce", "semver", "tslib")  # fmt: skip


def bundle() -> str:
    """The script, which defines `vegaEmbed` and nothing else."""
    import vl_convert  # here, since the project doesn't depend on it

    minor = VEGA_LITE.rpartition(".")[0]
    text = vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;", vl_version=minor)
    if f'"{VEGA_LITE}"' not in text:
        raise SystemExit(f"This vl-convert-python bundles another Vega-Lite than {VEGA_LITE}, which altair writes.")
    vega, embed = vl_convert.get_vega_version(), vl_convert.get_vega_embed_version()
    head = f"/*! Vega {vega}, Vega-Lite {VEGA_LITE}, vega-embed {embed}; licences: vega_bundle.licences.txt */"
    return f"{head}\n(() => {{\n{text}\n}})();\n"


def licences() -> str:
    """Each licence once, below the packages that it holds for."""
    import vl_convert

    packages = [f"vega@{vl_convert.get_vega_version()}", f"vega-lite@{VEGA_LITE}",
                f"vega-embed@{vl_convert.get_vega_embed_version()}", "lodash.debounce"]  # fmt: skip
    names_of: dict[str, list[str]] = defaultdict(list)
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(["npm", "install", "--ignore-scripts", "--silent", *packages], cwd=folder, check=True)
        for file in sorted(Path(folder, "node_modules").glob("*/LICENSE*")):
            if file.parent.name.startswith(BUNDLED):
                names_of[file.read_text(encoding="utf-8").strip()].append(file.parent.name)
    return "\n\n\n".join(f"{', '.join(names)}\n\n{text}" for text, names in names_of.items()) + "\n"


def main() -> None:
    """Write the script and the file of licences."""
    (FOLDER / "vega_bundle.js").write_text(bundle(), encoding="utf-8")
    (FOLDER / "vega_bundle.licences.txt").write_text(licences(), encoding="utf-8")


if __name__ == "__main__":
    main()
