"""How the network of a plan trains: ``batches`` of samples, ``students`` with quantizers, and compiled ``steps``."""
