"""Kairos discovery across networks by a distributed hash table."""
