"""From a plan to a network that runs: converted, fine-tuned, exported, restored. Read ``deploy`` first.

``deploy`` writes and checks files, ``file_sizes`` holds their sizes against the predicted ones. ``tuning`` trains
points, ``tuned_files`` stores their weights. ``rebuilding`` makes a network from a plan. ``resolving`` solves for
another budget. ``inspection`` looks at networks layer by layer. ``restore`` loads a saved front
together with its network. This package may import ``results`` and ``study``.
"""
