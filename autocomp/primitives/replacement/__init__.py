"""Cheaper operators in the place of others: low rank and Ghost.

``replacing`` is what both share, ``factors`` the decompositions. Read ``replacing`` first. It may import
``pruning`` and every room below it.
"""
