"""counters of inquiries in which several departments were addressed

Revision ID: 0007
Revises: 0006
"""

from collections import Counter

from alembic import op
import sqlalchemy as sa


revision = '0007'
down_revision = '0006'
branch_labels = None
depends_on = None


def upgrade() -> None:
    connection = op.get_bind()
    rows = connection.execute(sa.text(
        "SELECT inquiry.id, inquiry.department, addressee.department,"
        " inquiry.overdue_at IS NOT NULL AND inquiry.answered_at IS NULL"
        " FROM inquiry JOIN addressee ON addressee.inquiry_id = inquiry.id"
        " WHERE inquiry.status = 'open' ORDER BY inquiry.id, addressee.department"
    ))
    inquiries: dict[int, tuple[str, bool, list[str]]] = {}
    for number, answering, other, overdue in rows:
        inquiries.setdefault(number, (answering, bool(overdue), []))[2].append(other)
    counts: Counter[str] = Counter()
    for answering, overdue, others in inquiries.values():
        shared = f"{answering}:{'+'.join(others)}"
        counts[f"shared_open:{shared}"] += 1
        if overdue:
            counts[f"shared_overdue:{shared}"] += 1
    if counts:
        op.bulk_insert(
            sa.table('counter', sa.column('name', sa.String), sa.column('value', sa.Integer)),
            [{'name': name, 'value': value} for name, value in counts.items()],
        )
