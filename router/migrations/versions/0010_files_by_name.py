"""files are found by what they are called in the data directory

Revision ID: 0010
Revises: 0009
"""

from alembic import op
import sqlalchemy as sa


revision = '0010'
down_revision = '0009'
branch_labels = None
depends_on = None


def upgrade() -> None:
    apart = sa.text("blob <> ''")
    op.create_index('ix_arrival_blob', 'arrival', ['blob'], sqlite_where=apart, postgresql_where=apart)
    op.create_index('ix_attachment_sha256', 'attachment', ['sha256'])
