"""The registry of names in ``semconv/``: reads and checks it, generates constants and docs from it.

``python -m devtools.semconv`` writes ``src/ascend_opentelemetry/semconv`` and ``docs/semconv``; with ``--check`` it
only says whether they are up to date. Weaver is no requirement: of its forge this does what our templates need.
"""

from devtools.semconv._policy import OWN
from devtools.semconv._registry import ROOT, Registry, RegistryError, load

__all__ = ["OWN", "ROOT", "Registry", "RegistryError", "load"]
