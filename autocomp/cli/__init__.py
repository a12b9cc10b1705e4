"""The command line. ``commands`` are searches, ``device_commands`` devices, ``options`` what they share, ``sources``
reads a user's network and data, ``tables`` prints. Read ``commands`` first. It may import everything.
"""

from .commands import main

__all__ = ["main"]
