"""The command line. Read ``commands`` first. It may import everything.

``commands`` has the commands for searches, ``front_commands`` those for saved fronts, ``device_commands`` those for
devices, ``options`` the options of all. ``sources`` loads a user's network and data. ``tables`` and ``front_tables``
print tables.
"""

from .commands import main

__all__ = ["main"]
