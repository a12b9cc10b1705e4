"""Samplers as two papers describe them: the agents of AMC (``amc``) and HAQ (``haq``).

``agents`` walks layer by layer, ``ddpg`` learns. Read ``agents`` first. It may import ``samplers`` but for what
registers it.
"""
