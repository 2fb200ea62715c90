"""Certificates made on the spot; none is kept."""

from __future__ import annotations

import subprocess
from pathlib import Path

from channels.email.server import TlsFiles


def make(folder: Path, name: str, password: str = "") -> TlsFiles:
    """A self-made certificate."""
    files = TlsFiles(folder / f"{name}.pem", folder / f"{name}.key")
    key = ["-passout", f"pass:{password}"] if password else ["-nodes"]
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1",
         "-subj", f"/CN={name}", "-days", "2", *key, "-keyout", files.key,
         "-out", files.certificate],
        check=True, capture_output=True,
    )  # fmt: skip
    return files
