"""Programs for developing and testing this package; no part of what is installed."""
