"""Points of a search at lower resolutions of the images: the network behind images that it scales down.

Read ``plans`` first: how such a plan is written. ``networks`` makes the network, ``deployer`` applies its plans, and
``searches`` searches it, joins what was found to the front, and stores it.
"""
