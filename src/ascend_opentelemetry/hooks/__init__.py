"""Wrapping functions at import time: sync, async, generator, async generator; install and undo."""

from ascend_opentelemetry.hooks._custom import Custom
from ascend_opentelemetry.hooks._handler import Handler, Switch, Wrapper
from ascend_opentelemetry.hooks._handler_import import HandlerImport
from ascend_opentelemetry.hooks._install import Installer, MakeHook, Target
from ascend_opentelemetry.hooks._slot import TimerSlot
from ascend_opentelemetry.hooks._spellings import Spellings
from ascend_opentelemetry.hooks._stand_in import StandIn
from ascend_opentelemetry.hooks._timed_manager import ManagerTimer, makes_manager
from ascend_opentelemetry.hooks._timer import Timer, Values
from ascend_opentelemetry.hooks._wildcard import Wildcard
from ascend_opentelemetry.hooks._wrap import is_generator_kind, switched_off, wrap

__all__ = [
    "Custom",
    "Handler",
    "HandlerImport",
    "Installer",
    "MakeHook",
    "ManagerTimer",
    "Spellings",
    "StandIn",
    "Switch",
    "Target",
    "Timer",
    "TimerSlot",
    "Values",
    "Wildcard",
    "Wrapper",
    "is_generator_kind",
    "makes_manager",
    "switched_off",
    "wrap",
]
