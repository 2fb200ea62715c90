"""chats

Revision ID: 0005
Revises: 0004
"""

from alembic import op
import sqlalchemy as sa
import sqlmodel


revision = '0005'
down_revision = '0004'
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table('conversation',
        sa.Column('id', sa.Integer(), nullable=False),
        sa.Column('key', sqlmodel.sql.sqltypes.AutoString(), nullable=False),
        sa.Column('token_hash', sqlmodel.sql.sqltypes.AutoString(), nullable=False),
        sa.Column('inquiry_id', sa.Integer(), nullable=True),
        sa.Column('state', sa.Enum('new', 'waiting', 'talking', 'deferred', 'ended', name='conversationstate', native_enum=False, length=32), nullable=False),
        sa.Column('name', sqlmodel.sql.sqltypes.AutoString(), nullable=False),
        sa.Column('email', sqlmodel.sql.sqltypes.AutoString(), nullable=False),
        sa.Column('phone', sqlmodel.sql.sqltypes.AutoString(), nullable=False),
        sa.Column('language', sqlmodel.sql.sqltypes.AutoString(), nullable=False),
        sa.Column('created_at', sqlmodel.sql.sqltypes.UTCDateTime(), nullable=False),
        sa.Column('seen_at', sqlmodel.sql.sqltypes.UTCDateTime(), nullable=False),
        sa.Column('expires_at', sqlmodel.sql.sqltypes.UTCDateTime(), nullable=False),
        sa.Column('listening_until', sqlmodel.sql.sqltypes.UTCDateTime(), nullable=True),
        sa.Column('waiting_since', sqlmodel.sql.sqltypes.UTCDateTime(), nullable=True),
        sa.Column('answered_at', sqlmodel.sql.sqltypes.UTCDateTime(), nullable=True),
        sa.Column('deferred_at', sqlmodel.sql.sqltypes.UTCDateTime(), nullable=True),
        sa.Column('ended_at', sqlmodel.sql.sqltypes.UTCDateTime(), nullable=True),
        sa.Column('resident_read', sa.Integer(), nullable=False),
        sa.Column('staff_read', sa.Integer(), nullable=False),
        sa.Column('last_out', sa.Integer(), nullable=False),
        sa.Column('last_out_at', sqlmodel.sql.sqltypes.UTCDateTime(), nullable=True),
        sa.Column('mailed', sa.Integer(), nullable=False),
        sa.Column('transcripts', sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(['inquiry_id'], ['inquiry.id'], ),
        sa.PrimaryKeyConstraint('id'),
        sa.UniqueConstraint('key'),
        sa.UniqueConstraint('token_hash')
    )
    with op.batch_alter_table('conversation') as batch:
        batch.create_index('ix_conversation_answered', ['answered_at'], unique=False)
        batch.create_index('ix_conversation_expires', ['expires_at', 'id'], unique=False)
        batch.create_index('ix_conversation_inquiry_id', ['inquiry_id'], unique=False)
        batch.create_index('ix_conversation_live', ['waiting_since', 'id'], unique=False, sqlite_where=sa.text("state IN ('waiting', 'talking')"), postgresql_where=sa.text("state IN ('waiting', 'talking')"))
        batch.create_index('ix_conversation_unread', ['last_out_at', 'id'], unique=False, sqlite_where=sa.text("last_out > resident_read AND last_out > mailed"), postgresql_where=sa.text("last_out > resident_read AND last_out > mailed"))

    with op.batch_alter_table('staff') as batch:
        batch.add_column(sa.Column('desk_until', sqlmodel.sql.sqltypes.UTCDateTime(), nullable=True))
