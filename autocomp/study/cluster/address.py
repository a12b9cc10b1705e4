"""Whether anything listens at the address of a cluster: Ray itself waits for minutes."""

from __future__ import annotations

import os
import socket
from urllib.parse import urlsplit

CONNECT_S = 5.0


def need_listener(workers: str) -> None:
    """ConnectionError where nothing listens at ray://host:port, at host:port, or, for "auto", at RAY_ADDRESS."""
    address = os.environ.get("RAY_ADDRESS", "") if workers == "auto" else workers
    if not address or address == "auto":
        return  # Ray looks for a cluster on this machine, and says at once where there is none
    try:
        place = urlsplit(address if "://" in address else f"//{address}")
        if workers == "auto" and place.port is None:
            return  # a word of Ray's, such as "local"
        socket.create_connection((place.hostname or "", place.port or 0), CONNECT_S).close()
    except (OSError, ValueError) as error:
        asked = "" if address == workers else f" (RAY_ADDRESS={address})"
        raise ConnectionError(f"no Ray cluster answers at workers={workers!r}{asked}: {error}") from error
