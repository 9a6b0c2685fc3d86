"""``python -m ascend_opentelemetry.cli``."""

import sys

from ascend_opentelemetry.cli import main

sys.exit(main())
