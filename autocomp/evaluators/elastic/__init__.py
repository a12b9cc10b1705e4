"""A network that is trained once for all plans of a space, and the measurement of plans by its weights."""
