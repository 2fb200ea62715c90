"""the content of arrivals in a table of its own

Revision ID: 0011
Revises: 0010
"""

from alembic import op
import sqlalchemy as sa


revision = '0011'
down_revision = '0010'
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table('arrival_content',
    sa.Column('arrival_id', sa.Integer(), nullable=False),
    sa.Column('raw', sa.LargeBinary(), nullable=False),
    sa.ForeignKeyConstraint(['arrival_id'], ['arrival.id']),
    sa.PrimaryKeyConstraint('arrival_id')
    )
    op.execute(
        "INSERT INTO arrival_content (arrival_id, raw)"
        " SELECT id, raw FROM arrival WHERE raw IS NOT NULL"
    )
    op.drop_column('arrival', 'raw')
