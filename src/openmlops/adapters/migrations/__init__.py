"""Alembic migrations from an empty database to `schema.HEAD`; run by `database.connect`, never manually."""
