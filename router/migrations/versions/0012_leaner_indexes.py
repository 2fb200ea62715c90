"""indexes hold what is asked for, and nothing that is not there yet

Revision ID: 0012
Revises: 0011
"""

from alembic import op
import sqlalchemy as sa


revision = '0012'
down_revision = '0011'
branch_labels = None
depends_on = None


def upgrade() -> None:
    for name, first in (
        ('ix_outbox_mailbox', ['mailbox']),
        ('ix_outbox_domain', ['recipient_domain']),
        ('ix_outbox_kind', []),
    ):
        op.drop_index(name, 'outbox')
        op.create_index(name, 'outbox', [*first, 'kind', 'channel', 'created_at'])
    for name, table, columns, condition in (
        ('ix_inquiry_closed', 'inquiry', ['closed_at', 'id'], "status = 'closed'"),
        ('ix_arrival_inquiry_id', 'arrival', ['inquiry_id'], 'inquiry_id IS NOT NULL'),
    ):
        there = sa.text(condition)
        op.drop_index(name, table)
        op.create_index(name, table, columns, sqlite_where=there, postgresql_where=there)
    fetching = sa.text("state IN ('announced', 'fetched')")
    op.drop_index('ix_recording_open', 'recording')
    op.create_index(
        'ix_recording_open',
        'recording',
        ['next_at', 'id'],
        sqlite_where=fetching,
        postgresql_where=fetching,
    )
    op.drop_column('presence_claim', 'source_ref')
