"""Samplers as two papers describe them: the agents of AMC (``amc``) and HAQ (``haq``).

Read ``agents`` first: it builds a plan layer by layer. ``ddpg`` is the reinforcement learning. This package may import
``samplers``, but not the modules that register samplers from here.
"""
