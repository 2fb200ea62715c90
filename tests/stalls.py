"""Work that never ends, for worker processes: they load this and little else."""

from __future__ import annotations

import time


def for_ever(*_anything: object) -> None:
    time.sleep(3600)
