"""marks of a message, inquiries set aside, HTML made safe on demand

Revision ID: 0002
Revises: 0001
"""

from alembic import op
import sqlalchemy as sa
import sqlmodel


revision = '0002'
down_revision = '0001'
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table('message') as batch:
        batch.add_column(sa.Column('has_html', sa.Boolean(), nullable=False, server_default=sa.false()))
        batch.add_column(sa.Column('sender_check', sqlmodel.sql.sqltypes.AutoString(), nullable=False, server_default=''))
        batch.add_column(sa.Column('marks', sa.JSON(), nullable=False, server_default='[]'))
    op.execute("UPDATE message SET has_html = (html <> '')")
    with op.batch_alter_table('message') as batch:
        batch.drop_column('html')
        for column in ('has_html', 'sender_check', 'marks'):
            batch.alter_column(column, server_default=None)
    op.create_index(
        'ix_inquiry_aside',
        'inquiry',
        ['received_at', 'id'],
        sqlite_where=sa.text("status = 'aside'"),
        postgresql_where=sa.text("status = 'aside'"),
    )
