"""What any Kubernetes answers, for engines: is it ready, who is in it, and how it is reached."""
