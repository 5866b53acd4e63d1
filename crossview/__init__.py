"""One detector for two street-level panoramas: finds objects in both views, and each object in the other view."""

__version__ = "0.1.0"
