"""From a plan to a network that runs: converted, fine-tuned, exported, restored.

``deploy`` makes and checks files, ``tuning`` and ``tuned_files`` train points and keep their weights,
``rebuilding`` makes a network from a plan, ``resolving`` solves for another budget, ``restore`` makes a saved front
work again. Read ``deploy`` first. It may import ``results`` and ``study``.
"""
