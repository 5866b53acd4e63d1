"""Tests of crossview; the folders mirror the package."""
