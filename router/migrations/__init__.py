"""The schema's history (Alembic). `router.schema` runs it."""
