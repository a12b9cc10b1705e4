"""How a choice changes a network."""

if __name__ != "autocomp.primitives":
    raise ImportError(f"import autocomp.primitives, not {__name__}")

from .trace import trace

__all__ = ["trace"]
