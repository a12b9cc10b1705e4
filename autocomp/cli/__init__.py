"""The command line. Read ``commands`` first. It may import everything.

``commands`` has the commands for searches, ``device_commands`` those for devices, ``options`` the options of both.
``sources`` loads a user's network and data. ``tables`` prints tables.
"""

from .commands import main

__all__ = ["main"]
