"""A network that is trained once for all plans: its weights for plans, and as a file."""
