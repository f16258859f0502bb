"""The HTTP interface of a running node."""
