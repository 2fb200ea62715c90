"""What Twilio's own library for Node says: an oracle that is not our code, nor the one we use."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

REPOSITORY = Path(__file__).parents[1]
MODULES = REPOSITORY / "node_modules"

_SIGN = """
const w = require("twilio/lib/webhooks/webhooks");
const cases = JSON.parse(require("fs").readFileSync(0, "utf8"));
const answers = cases.map(({token, url, form, body}) => body === null
  ? w.getExpectedTwilioSignature(token, url, form)
  : (() => {
      const signed = url + (url.includes("?") ? "&" : "?")
        + "bodySHA256=" + w.getExpectedBodyHash(body);
      return [signed, w.getExpectedTwilioSignature(token, signed, {})];
    })());
process.stdout.write(JSON.stringify(answers));
"""


def node(script: str, given: Any, package: str = "twilio") -> Any:
    """The JSON that a script in Node answers to JSON on its standard input."""
    if shutil.which("node") is None or not (MODULES / package).is_dir():
        pytest.skip(f"node and the npm package {package} are needed: make node_modules/.dev")
    done = subprocess.run(
        ["node", "-e", script],
        input=json.dumps(given),
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return json.loads(done.stdout)


def form_signatures(
    cases: Sequence[tuple[str, str, Mapping[str, str | list[str]]]],
) -> list[str]:
    """(token, URL, form) -> the signature that Twilio would send; of many, in one go."""
    given = [{"token": t, "url": u, "form": dict(f), "body": None} for t, u, f in cases]
    found: list[str] = node(_SIGN, given)
    return found


def json_signature(token: str, url: str, body: str) -> tuple[str, str]:
    """The URL with the hash of a JSON body, and its signature."""
    [[signed, signature]] = node(_SIGN, [{"token": token, "url": url, "form": None, "body": body}])
    return signed, signature
