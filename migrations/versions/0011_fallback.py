"""Where another endpoint or model than the run's answered, or none did, each row and each request says so."""

from alembic import op

from migrations.locking import lock

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

LOCKED = ("recommendations", "llm_calls")

FALLBACK = """
ALTER TABLE recommendations ADD COLUMN model text;
COMMENT ON COLUMN recommendations.model IS 'The model that ranked it where that is not the run''s; else null.';
-- Wider than before, so that no row need be looked at.
ALTER TABLE recommendations DROP CONSTRAINT recommendations_provenance_check,
    ADD CONSTRAINT recommendations_provenance_check
    CHECK (provenance IN ('language_model', 'offline_ranker', 'retrieval_order')) NOT VALID;
COMMENT ON COLUMN recommendations.provenance IS
    'language_model; offline_ranker: ranked by word overlap, which is no language model''s judgement; '
    'retrieval_order: no model answered, so the candidates stand in the order in which they were found.';
ALTER TABLE llm_calls ADD COLUMN endpoint text;
COMMENT ON COLUMN llm_calls.endpoint IS 'Where it was asked, if not at the run''s endpoint; else null.';
"""

BACK = """
ALTER TABLE llm_calls DROP COLUMN endpoint;
ALTER TABLE recommendations DROP COLUMN model;
ALTER TABLE recommendations DISABLE TRIGGER recommendations_stay;
UPDATE recommendations SET provenance = 'offline_ranker' WHERE provenance = 'retrieval_order';
ALTER TABLE recommendations ENABLE TRIGGER recommendations_stay;
ALTER TABLE recommendations DROP CONSTRAINT recommendations_provenance_check,
    ADD CONSTRAINT recommendations_provenance_check
    CHECK (provenance IN ('language_model', 'offline_ranker')) NOT VALID;
ALTER TABLE recommendations VALIDATE CONSTRAINT recommendations_provenance_check;
COMMENT ON COLUMN recommendations.provenance IS
    'language_model, or offline_ranker: ranked by word overlap, which is no language model''s judgement.';
"""


def upgrade() -> None:
    lock(*LOCKED)
    op.execute(FALLBACK)


def downgrade() -> None:
    lock(*LOCKED)
    op.execute(BACK)
