"""Alembic's scripts: `env.py` runs them, `versions/` holds one file for each change of the tables."""
