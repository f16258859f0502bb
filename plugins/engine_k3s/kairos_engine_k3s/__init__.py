"""Kairos Kubernetes engine: k3s."""
