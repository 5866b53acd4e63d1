"""Measurements side by side; never part of the test suite."""
