"""Kairos ledger storage in SQLite."""
