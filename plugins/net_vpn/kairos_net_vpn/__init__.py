"""Kairos virtual private network between the nodes. Imports nothing: the data plane starts from here too."""
