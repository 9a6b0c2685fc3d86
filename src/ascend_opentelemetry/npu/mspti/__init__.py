"""Operators while they run, by CANN's MSPTI library: metrics, windows, its database."""
