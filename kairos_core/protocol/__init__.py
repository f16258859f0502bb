"""The protocol, pure: bytes and clock readings in, bytes and events out. Nothing here opens, waits or asks the time."""
