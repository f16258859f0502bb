"""The agent as a service of the machine: the files that make it one, and the init system that runs it."""
