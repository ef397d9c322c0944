"""These tests need Debian's package prometheus; `make test-monitoring` runs them."""

from __future__ import annotations

import os

collect_ignore_glob = [] if os.environ.get("MONITORING") else ["test_*.py"]
