"""The files that hold customers' data outside the database are known, so that an erasure finds them."""

from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

FILES = """
CREATE TABLE rejects_files (
    machine text NOT NULL,
    path text NOT NULL,
    written_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (machine, path)
);
COMMENT ON TABLE rejects_files IS 'Where `recstream load` wrote refused lines of the shop''s files.';
COMMENT ON COLUMN rejects_files.machine IS 'The name of the host on which the path is.';
ALTER TABLE rejects_files OWNER TO recstream_owner;
GRANT SELECT, INSERT, UPDATE ON rejects_files TO recstream_writer;
"""


def upgrade() -> None:
    op.execute(FILES)


def downgrade() -> None:
    op.execute("DROP TABLE rejects_files")
