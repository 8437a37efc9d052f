"""casa: computer-assisted semen analysis.

Importing the package loads nothing heavy: neither cv2, torch, Qt nor matplotlib.
"""

__version__ = "0.1.0"
