"""Weights of the layers that replace one, fitted to its outputs.

``factorisation`` has two layers of lower rank, ``ghost_fit`` Ghost layers, ``convolution_fit`` smaller kernels,
convolutions in groups and separable ones.
"""
