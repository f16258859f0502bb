"""Services of this machine for engines: unit files, a supervised child, and a record of what was written."""
