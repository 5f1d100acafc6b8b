"""Parallel neural-network training without changing the program.

Importing this package starts nothing, patches nothing and does not import torch.
"""

__all__ = ["__version__"]

__version__ = "0.1.0"
