"""phone calls, recordings, commands to the provider, presence, merged contacts, mailboxes

Revision ID: 0004
Revises: 0003
"""

from alembic import op
import sqlalchemy as sa
import sqlmodel


revision = '0004'
down_revision = '0003'
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table('presence_claim',
        sa.Column('id', sa.Integer(), nullable=False),
        sa.Column('person', sqlmodel.sql.sqltypes.AutoString(), nullable=False),
        sa.Column('source', sqlmodel.sql.sqltypes.AutoString(), nullable=False),
        sa.Column('layer', sqlmodel.sql.sqltypes.AutoString(), nullable=False),
        sa.Column('state', sqlmodel.sql.sqltypes.AutoString(), nullable=False),
        sa.Column('reach_phone', sa.Boolean(), nullable=True),
        sa.Column('reach_chat', sa.Boolean(), nullable=True),
        sa.Column('starts_at', sqlmodel.sql.sqltypes.UTCDateTime(), nullable=False),
        sa.Column('ends_at', sqlmodel.sql.sqltypes.UTCDateTime(), nullable=True),
        sa.Column('observed_at', sqlmodel.sql.sqltypes.UTCDateTime(), nullable=False),
        sa.Column('lease_until', sqlmodel.sql.sqltypes.UTCDateTime(), nullable=True),
        sa.Column('set_by', sqlmodel.sql.sqltypes.AutoString(), nullable=False),
        sa.Column('public_text', sqlmodel.sql.sqltypes.AutoString(), nullable=False),
        sa.Column('private_note', sqlmodel.sql.sqltypes.AutoString(), nullable=False),
        sa.Column('source_ref', sqlmodel.sql.sqltypes.AutoString(), nullable=False),
        sa.PrimaryKeyConstraint('id')
    )
    with op.batch_alter_table('presence_claim') as batch:
        batch.create_index('ix_presence_claim_person', ['person', 'ends_at'], unique=False)

    op.create_table('provider_window',
        sa.Column('name', sqlmodel.sql.sqltypes.AutoString(), nullable=False),
        sa.Column('until', sqlmodel.sql.sqltypes.UTCDateTime(), nullable=False),
        sa.PrimaryKeyConstraint('name')
    )
    op.create_table('contact_merge',
        sa.Column('id', sa.Integer(), nullable=False),
        sa.Column('kept_id', sa.Integer(), nullable=False),
        sa.Column('merged_id', sa.Integer(), nullable=False),
        sa.Column('at', sqlmodel.sql.sqltypes.UTCDateTime(), nullable=False),
        sa.Column('staff_id', sa.Integer(), nullable=True),
        sa.Column('moved', sa.JSON(), nullable=False),
        sa.Column('undone_at', sqlmodel.sql.sqltypes.UTCDateTime(), nullable=True),
        sa.ForeignKeyConstraint(['kept_id'], ['contact.id'], ),
        sa.ForeignKeyConstraint(['merged_id'], ['contact.id'], ),
        sa.ForeignKeyConstraint(['staff_id'], ['staff.id'], ),
        sa.PrimaryKeyConstraint('id')
    )
    with op.batch_alter_table('contact_merge') as batch:
        batch.create_index('ix_contact_merge_kept_id', ['kept_id'], unique=False)
        batch.create_index('ix_contact_merge_merged_id', ['merged_id'], unique=False)

    op.create_table('call',
        sa.Column('id', sa.Integer(), nullable=False),
        sa.Column('provider', sqlmodel.sql.sqltypes.AutoString(), nullable=False),
        sa.Column('call_id', sqlmodel.sql.sqltypes.AutoString(), nullable=False),
        sa.Column('inquiry_id', sa.Integer(), nullable=False),
        sa.Column('direction', sa.Enum('in', 'out', 'note', name='direction', native_enum=False, length=32), nullable=False),
        sa.Column('caller', sqlmodel.sql.sqltypes.AutoString(), nullable=False),
        sa.Column('line', sqlmodel.sql.sqltypes.AutoString(), nullable=False),
        sa.Column('person', sqlmodel.sql.sqltypes.AutoString(), nullable=False),
        sa.Column('department', sqlmodel.sql.sqltypes.AutoString(), nullable=False),
        sa.Column('state', sa.Enum('ringing', 'dialling', 'waiting', 'talking', 'voicemail', 'ended', name='callstate', native_enum=False, length=32), nullable=False),
        sa.Column('outcome', sa.Enum('answered', 'missed', 'voicemail', 'callback', 'closed', 'forwarded', 'rejected', 'unknown', name='calloutcome', native_enum=False, length=32), nullable=True),
        sa.Column('step', sa.JSON(), nullable=False),
        sa.Column('staff_id', sa.Integer(), nullable=True),
        sa.Column('answered_by', sqlmodel.sql.sqltypes.AutoString(), nullable=False),
        sa.Column('through_switchboard', sa.Boolean(), nullable=False),
        sa.Column('wants_callback', sa.Boolean(), nullable=False),
        sa.Column('provider_status', sqlmodel.sql.sqltypes.AutoString(), nullable=False),
        sa.Column('started_at', sqlmodel.sql.sqltypes.UTCDateTime(), nullable=False),
        sa.Column('waiting_since', sqlmodel.sql.sqltypes.UTCDateTime(), nullable=True),
        sa.Column('answered_at', sqlmodel.sql.sqltypes.UTCDateTime(), nullable=True),
        sa.Column('ended_at', sqlmodel.sql.sqltypes.UTCDateTime(), nullable=True),
        sa.Column('seen_at', sqlmodel.sql.sqltypes.UTCDateTime(), nullable=False),
        sa.ForeignKeyConstraint(['inquiry_id'], ['inquiry.id'], ),
        sa.ForeignKeyConstraint(['staff_id'], ['staff.id'], ),
        sa.PrimaryKeyConstraint('id'),
        sa.UniqueConstraint('provider', 'call_id')
    )
    with op.batch_alter_table('call') as batch:
        batch.create_index('ix_call_inquiry_id', ['inquiry_id'], unique=False)
        batch.create_index('ix_call_live', ['state', 'id'], unique=False, sqlite_where=sa.text("state <> 'ended'"), postgresql_where=sa.text("state <> 'ended'"))
        batch.create_index('ix_call_started', ['started_at', 'id'], unique=False)

    op.create_table('call_command',
        sa.Column('id', sa.Integer(), nullable=False),
        sa.Column('call_id', sa.Integer(), nullable=False),
        sa.Column('verb', sqlmodel.sql.sqltypes.AutoString(), nullable=False),
        sa.Column('arguments', sa.JSON(), nullable=False),
        sa.Column('state', sqlmodel.sql.sqltypes.AutoString(), nullable=False),
        sa.Column('attempts', sa.Integer(), nullable=False),
        sa.Column('next_at', sqlmodel.sql.sqltypes.UTCDateTime(), nullable=False),
        sa.Column('created_at', sqlmodel.sql.sqltypes.UTCDateTime(), nullable=False),
        sa.Column('staff_id', sa.Integer(), nullable=True),
        sa.Column('provider_id', sqlmodel.sql.sqltypes.AutoString(), nullable=False),
        sa.Column('detail', sqlmodel.sql.sqltypes.AutoString(), nullable=False),
        sa.ForeignKeyConstraint(['call_id'], ['call.id'], ),
        sa.ForeignKeyConstraint(['staff_id'], ['staff.id'], ),
        sa.PrimaryKeyConstraint('id')
    )
    with op.batch_alter_table('call_command') as batch:
        batch.create_index('ix_call_command_call_id', ['call_id'], unique=False)
        batch.create_index('ix_call_command_due', ['next_at', 'id'], unique=False, sqlite_where=sa.text("state = 'queued'"), postgresql_where=sa.text("state = 'queued'"))

    op.create_table('recording',
        sa.Column('id', sa.Integer(), nullable=False),
        sa.Column('recording_id', sqlmodel.sql.sqltypes.AutoString(), nullable=False),
        sa.Column('call_id', sa.Integer(), nullable=False),
        sa.Column('seconds', sa.Integer(), nullable=False),
        sa.Column('state', sqlmodel.sql.sqltypes.AutoString(), nullable=False),
        sa.Column('attempts', sa.Integer(), nullable=False),
        sa.Column('next_at', sqlmodel.sql.sqltypes.UTCDateTime(), nullable=False),
        sa.Column('message_id', sa.Integer(), nullable=True),
        sa.Column('detail', sqlmodel.sql.sqltypes.AutoString(), nullable=False),
        sa.Column('created_at', sqlmodel.sql.sqltypes.UTCDateTime(), nullable=False),
        sa.ForeignKeyConstraint(['call_id'], ['call.id'], ),
        sa.ForeignKeyConstraint(['message_id'], ['message.id'], ),
        sa.PrimaryKeyConstraint('id'),
        sa.UniqueConstraint('recording_id')
    )
    with op.batch_alter_table('recording') as batch:
        batch.create_index('ix_recording_call_id', ['call_id'], unique=False)
        batch.create_index('ix_recording_open', ['state', 'id'], unique=False, sqlite_where=sa.text("state IN ('announced', 'fetched')"), postgresql_where=sa.text("state IN ('announced', 'fetched')"))

    with op.batch_alter_table('address') as batch:
        batch.add_column(sa.Column('opted_out_at', sqlmodel.sql.sqltypes.UTCDateTime(), nullable=True))

    with op.batch_alter_table('inquiry') as batch:
        batch.add_column(sa.Column('line', sqlmodel.sql.sqltypes.AutoString(), nullable=False, server_default=''))
        batch.add_column(sa.Column('calls', sa.Integer(), nullable=False, server_default='0'))
    with op.batch_alter_table('inquiry') as batch:
        for column in ('line', 'calls'):
            batch.alter_column(column, server_default=None)
    op.create_index(
        'ix_inquiry_line',
        'inquiry',
        ['line', 'sender_address', 'id'],
        sqlite_where=sa.text("line <> ''"),
        postgresql_where=sa.text("line <> ''"),
    )
    op.create_index(
        'ix_event_presence',
        'event',
        ['at'],
        sqlite_where=sa.text("kind = 'presence_changed'"),
        postgresql_where=sa.text("kind = 'presence_changed'"),
    )

    with op.batch_alter_table('outbox') as batch:
        batch.add_column(sa.Column('mailbox', sqlmodel.sql.sqltypes.AutoString(), nullable=False, server_default=''))
        batch.add_column(sa.Column('trying_since', sqlmodel.sql.sqltypes.UTCDateTime(), nullable=True))
    op.execute("UPDATE outbox SET mailbox = recipient, trying_since = created_at")
    with op.batch_alter_table('outbox') as batch:
        batch.alter_column('mailbox', server_default=None)
        batch.alter_column('trying_since', nullable=False)
        batch.drop_index('ix_outbox_recipient')
        batch.create_index('ix_outbox_mailbox', ['mailbox', 'kind', 'created_at'], unique=False)
        batch.drop_index('ix_outbox_unsent')
        batch.create_index('ix_outbox_unsent', ['state', 'id'], unique=False, sqlite_where=sa.text("state NOT IN ('sent', 'delivered')"), postgresql_where=sa.text("state NOT IN ('sent', 'delivered')"))
        batch.create_index('ix_outbox_provider', ['provider_id'], unique=False, sqlite_where=sa.text("channel = 'sms'"), postgresql_where=sa.text("channel = 'sms'"))

    op.create_table('remote_file',
        sa.Column('id', sa.Integer(), nullable=False),
        sa.Column('message_id', sa.Integer(), nullable=False),
        sa.Column('url', sqlmodel.sql.sqltypes.AutoString(), nullable=False),
        sa.Column('content_type', sqlmodel.sql.sqltypes.AutoString(), nullable=False),
        sa.Column('state', sqlmodel.sql.sqltypes.AutoString(), nullable=False),
        sa.Column('attempts', sa.Integer(), nullable=False),
        sa.Column('next_at', sqlmodel.sql.sqltypes.UTCDateTime(), nullable=False),
        sa.Column('detail', sqlmodel.sql.sqltypes.AutoString(), nullable=False),
        sa.Column('created_at', sqlmodel.sql.sqltypes.UTCDateTime(), nullable=False),
        sa.ForeignKeyConstraint(['message_id'], ['message.id'], ),
        sa.PrimaryKeyConstraint('id')
    )
    with op.batch_alter_table('remote_file') as batch:
        batch.create_index('ix_remote_file_message_id', ['message_id'], unique=False)
        batch.create_index('ix_remote_file_open', ['next_at', 'id'], unique=False, sqlite_where=sa.text("state IN ('announced', 'fetched')"), postgresql_where=sa.text("state IN ('announced', 'fetched')"))
