"""departments that a message was sent to as well; automatic letters counted in all

Revision ID: 0003
Revises: 0002
"""

from alembic import op
import sqlalchemy as sa
import sqlmodel


revision = '0003'
down_revision = '0002'
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        'addressee',
        sa.Column('department', sqlmodel.sql.sqltypes.AutoString(), nullable=False),
        sa.Column('inquiry_id', sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(['department'], ['department.slug']),
        sa.ForeignKeyConstraint(['inquiry_id'], ['inquiry.id']),
        sa.PrimaryKeyConstraint('department', 'inquiry_id'),
    )
    op.create_index('ix_addressee_inquiry_id', 'addressee', ['inquiry_id'])
    op.create_index('ix_outbox_kind', 'outbox', ['kind', 'created_at'])
