"""Kairos discovery on the local network by multicast DNS."""
