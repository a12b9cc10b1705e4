"""Networks that compute the same in float and are easier to round: shifted and scaled inputs, rotated streams.

Read ``rotation``. This package may import ``quantization``'s modules and what these may import.
"""
