"""Calls that agents begin in Movidesk."""
