"""Orthogonal matrices, and the places of a network where they cancel out: ``rotated_axes.py`` finds these in the graph,
``matrices.py`` makes the matrices and multiplies parameters by them."""
