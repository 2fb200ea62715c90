"""what became of a talk

Revision ID: 0009
Revises: 0008
"""

from alembic import op
import sqlalchemy as sa


revision = '0009'
down_revision = '0008'
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table('conversation') as batch:
        batch.add_column(sa.Column('outcome', sa.Enum('answered', 'passed_on', 'no_contact', 'unwanted', 'casework', name='talkoutcome', native_enum=False, length=32), nullable=True))
