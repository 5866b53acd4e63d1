"""Tests of crossview.dual."""
