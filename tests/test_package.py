"""The wheel has everything the service needs, and nothing of the tests."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
NEEDED = (
    "router/config.default.yaml",
    "router/demo_contacts.yaml",
    "router/demo_phone.yaml",
    "router/migrations/env.py",
    "router/migrations/versions/0001_the_core_tables.py",
    "router/web/locale/nn/LC_MESSAGES/sentralbord.po",
    "router/web/static/desk.js",
    "router/web/static/vendor/manifest.json",
    "router/web/templates/queue.html",
    "rules/sorum/90-standard.yaml",
)


@pytest.mark.slow
def test_the_installed_wheel_runs_without_the_checkout(tmp_path: Path) -> None:
    _pip("wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(tmp_path), str(ROOT))
    [wheel] = tmp_path.glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    assert not [name for name in NEEDED if name not in names]
    assert not [name for name in names if name.startswith("tests/")]

    _pip("install", "--no-deps", "--target", str(tmp_path / "site"), str(wheel))
    checked = subprocess.run(
        [sys.executable, "-m", "router", "config", "check"],
        cwd=tmp_path,
        env={"PYTHONPATH": str(tmp_path / "site"), "PATH": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert checked.returncode == 0, checked.stderr
    assert "34 departments" in checked.stdout


def _pip(*arguments: str) -> None:
    subprocess.run(
        [sys.executable, "-m", "pip", "--disable-pip-version-check", "-q", *arguments], check=True
    )
