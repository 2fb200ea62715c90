"""chats by XMPP, staff who answer by it, and who holds its link

Revision ID: 0008
Revises: 0007
"""

from alembic import op
import sqlalchemy as sa
import sqlmodel


revision = '0008'
down_revision = '0007'
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table('conversation') as batch:
        batch.add_column(sa.Column('jid', sqlmodel.sql.sqltypes.AutoString(), nullable=False, server_default=''))
        batch.add_column(sa.Column('local', sqlmodel.sql.sqltypes.AutoString(), nullable=False, server_default=''))
        batch.create_index('ix_conversation_jid', ['jid', 'local', 'id'], unique=False, sqlite_where=sa.text("jid <> ''"), postgresql_where=sa.text("jid <> ''"))

    with op.batch_alter_table('conversation') as batch:
        for column in ('jid', 'local'):
            batch.alter_column(column, server_default=None)

    with op.batch_alter_table('staff') as batch:
        batch.add_column(sa.Column('jid', sqlmodel.sql.sqltypes.AutoString(), nullable=True))
        batch.create_unique_constraint('uq_staff_jid', ['jid'])

    op.create_table('relayed',
        sa.Column('inquiry_id', sa.Integer(), nullable=False),
        sa.Column('staff_id', sa.Integer(), nullable=False),
        sa.Column('message_id', sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(['inquiry_id'], ['inquiry.id'], ),
        sa.ForeignKeyConstraint(['staff_id'], ['staff.id'], ),
        sa.PrimaryKeyConstraint('inquiry_id')
    )
    op.create_table('lease',
        sa.Column('name', sqlmodel.sql.sqltypes.AutoString(), nullable=False),
        sa.Column('holder', sqlmodel.sql.sqltypes.AutoString(), nullable=False),
        sa.Column('until', sqlmodel.sql.sqltypes.UTCDateTime(), nullable=False),
        sa.PrimaryKeyConstraint('name')
    )
