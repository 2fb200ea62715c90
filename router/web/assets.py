"""Copy the front-end files that the pages use from node_modules into static/vendor.

`python -m router.web.assets` is what `make assets` runs after `npm ci`; git ignores the folder. One
explicit list; with the files goes a manifest of their SHA-256, from which the pages take the
`integrity` attribute. Without the folder the pages still work, in plainer clothes.
"""

from __future__ import annotations

import base64
import hashlib
import shutil
import sys
from pathlib import Path

import orjson

STATIC = Path(__file__).parent / "static"
VENDOR = STATIC / "vendor"
MANIFEST = "manifest.json"

_INTER = "@fontsource/inter/files/inter"
FILES = {
    "designsystemet.css": "@digdir/designsystemet-css/dist/src/index.css",
    "theme.css": "@digdir/designsystemet-css/dist/theme/designsystemet.css",
    "designsystemet.LICENSE.txt": "@digdir/designsystemet-css/LICENSE",
    **{
        f"inter-{subset}-{weight}.woff2": f"{_INTER}-{subset}-{weight}-normal.woff2"
        for subset in ("latin", "latin-ext")
        for weight in (400, 500, 600)
    },
    "inter.LICENSE.txt": "@fontsource/inter/LICENSE",
    "htmx.min.js": "htmx.org/dist/htmx.min.js",
    "htmx.LICENSE.txt": "htmx.org/LICENSE",
}
"""Name in static/vendor -> path in node_modules."""


def integrity(content: bytes) -> str:
    """The value of an `integrity` attribute (W3C Subresource Integrity)."""
    return "sha256-" + base64.b64encode(hashlib.sha256(content).digest()).decode()


def copy(modules: Path, vendor: Path = VENDOR) -> dict[str, str]:
    """Copy the list, drop what is no longer on it, write the manifest; returns it.

    Raises `FileNotFoundError` when a file is missing in `modules`; `vendor` is then left as it was.
    """
    contents = {name: (modules / source).read_bytes() for name, source in FILES.items()}
    vendor.mkdir(parents=True, exist_ok=True)
    for stale in vendor.iterdir():
        if stale.is_dir():
            shutil.rmtree(stale)
        elif stale.name not in contents:
            stale.unlink()
    for name, content in contents.items():
        (vendor / name).write_bytes(content)
    manifest = {name: integrity(content) for name, content in contents.items()}
    (vendor / MANIFEST).write_bytes(orjson.dumps(manifest, option=orjson.OPT_INDENT_2))
    return manifest


def read_manifest(vendor: Path = VENDOR) -> dict[str, str]:
    """File name -> integrity; empty when the assets have not been built."""
    try:
        manifest: dict[str, str] = orjson.loads((vendor / MANIFEST).read_bytes())
    except FileNotFoundError:
        return {}
    return manifest


def main() -> int:
    """Run the copy for `make assets`."""
    modules = Path(__file__).parents[2] / "node_modules"
    try:
        manifest = copy(modules)
    except FileNotFoundError as error:
        sys.stderr.write(f"Missing {error.filename}. Run npm ci first.\n")
        return 1
    sys.stdout.write(f"{len(manifest)} files in {VENDOR.relative_to(Path(__file__).parents[2])}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
