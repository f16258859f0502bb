"""Kairos elastic IP for the control plane, by kube-vip."""
