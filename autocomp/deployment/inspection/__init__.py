"""A network looked at layer by layer: costs, tensors, noise and times; of a plan, of a front, or of a user's own file.

Read :mod:`profiler` first, then :mod:`front_details`. It may import what :mod:`autocomp.deployment` may.
"""
