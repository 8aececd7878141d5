"""Alembic's steps from an empty database to `schema.HEAD`; run by `database.connect`, never by hand."""
