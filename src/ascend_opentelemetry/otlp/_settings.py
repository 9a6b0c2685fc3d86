"""The standard settings of span batches."""

from __future__ import annotations

import logging
import os

_logger = logging.getLogger(__name__)


def positive_int(name: str, default: int) -> int:
    """Return an environment variable as a number > 0; ``default`` if it is not set.

    Anything else gives ``default`` and one warning.
    """
    value = os.environ.get(name, "").strip()
    if not value:
        return default
    if value.isdecimal() and int(value) > 0:
        return int(value)
    _logger.warning("%s=%r is not a whole number above 0; %d is used.", name, value, default)
    return default
