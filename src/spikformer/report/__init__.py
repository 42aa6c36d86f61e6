"""Figures of what a network did."""
