"""recstream's database schema, version by version (Alembic)."""
