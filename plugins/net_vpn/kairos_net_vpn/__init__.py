"""Kairos virtual private network between the nodes."""
