"""Kairos transport: TLS 1.3 streams and UDP datagrams."""
