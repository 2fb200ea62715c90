"""mail that waits for a scanner

Revision ID: 0006
Revises: 0005
"""

from alembic import op
import sqlalchemy as sa
import sqlmodel


revision = '0006'
down_revision = '0005'
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table('unscanned',
        sa.Column('arrival_id', sa.Integer(), nullable=False),
        sa.Column('attempts', sa.Integer(), nullable=False),
        sa.Column('next_at', sqlmodel.sql.sqltypes.UTCDateTime(), nullable=False),
        sa.ForeignKeyConstraint(['arrival_id'], ['arrival.id'], ),
        sa.PrimaryKeyConstraint('arrival_id')
    )
    with op.batch_alter_table('unscanned') as batch:
        batch.create_index('ix_unscanned_due', ['next_at', 'arrival_id'], unique=False)
    # What came in unscanned until now.
    op.execute(
        "INSERT INTO unscanned (arrival_id, attempts, next_at)"
        " SELECT DISTINCT arrival_id, 0, at FROM message"
        " WHERE arrival_id IS NOT NULL AND CAST(marks AS VARCHAR) LIKE '%\"unscanned\"%'"
    )
