"""Garbage collection (`gc`) for a process that has loaded everything and runs on."""

from __future__ import annotations

import gc

YOUNG = 20_000
"""New objects until the young ones are looked through: those of some dozen contacts. Python's own
700 makes that a tenth of the work."""


def keep_what_is_loaded() -> None:
    """Look for garbage from now on, but not among what has been loaded so far: that stays."""
    gc.freeze()
    gc.set_threshold(YOUNG)
    gc.enable()
