"""The event loop of one node: it owns the clock, the sockets and the files, and drives the pure parts."""
