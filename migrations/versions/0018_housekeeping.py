"""The service has the planner know how much is in the partitions of a day, for what a night has filled."""

from alembic import op

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None

# Who makes no tables may not look at them for the planner either: it takes the owner's rights, for these tables alone.
# It waits for nobody: a partition that another holds is left to the next time.
ANALYZE_DAY = r"""
CREATE FUNCTION recstream_analyze_partition(wanted text) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
    IF wanted !~ '^(slates|recommendations|rejections|llm_calls)_[0-9]{8}$' THEN
        RAISE EXCEPTION '% is no partition of a day', wanted;
    END IF;
    EXECUTE format('ANALYZE (SKIP_LOCKED) %I', wanted);
END $$;
COMMENT ON FUNCTION recstream_analyze_partition IS 'Has the planner know how much is in one partition of a day.';
ALTER FUNCTION recstream_analyze_partition OWNER TO recstream_owner;
REVOKE ALL ON FUNCTION recstream_analyze_partition FROM PUBLIC;
GRANT EXECUTE ON FUNCTION recstream_analyze_partition TO recstream_writer;
DO $$ BEGIN
    EXECUTE format('ALTER FUNCTION recstream_analyze_partition SET search_path = %I, pg_temp', current_schema());
END $$;
"""


def upgrade() -> None:
    op.execute(ANALYZE_DAY)


def downgrade() -> None:
    op.execute("DROP FUNCTION recstream_analyze_partition")
