"""A compressed network's dense layers as a checkpoint folder in a layout that language model servers read: packed
integers or bytes with scales, and a description. Read ``checkpoint_folder.py`` first. May import ``primitives``."""
