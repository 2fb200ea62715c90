"""Row numbers in addresses: one that no row can have is not found, like any other that is not
there."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends

from router.errors import NotFoundError

LARGEST = 2**63 - 1
"""What the store's integers hold."""


def _row_number(number: int) -> int:
    if not 0 < number <= LARGEST:
        raise NotFoundError
    return number


RowNumber = Annotated[int, Depends(_row_number)]
