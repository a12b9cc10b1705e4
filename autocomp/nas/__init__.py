"""Searches over networks that a user describes by choices: a table of measured networks, or a function that makes them.

Read ``searching`` first. ``choices`` turns what is given into a search space and its costs, ``answer`` holds what was
found. This room may import everything but the driver, the quick start and the command line; it needs no MindSpore.
"""

if __name__ != "autocomp.nas":
    raise ImportError(f"import autocomp.nas, not {__name__}")

from .searching import search_choices

__all__ = ["search_choices"]
