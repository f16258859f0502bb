"""The decisions, pure: a view of the ledger in, actions out."""
