"""Symbols files: which functions are recorded, as what, and with which attributes."""

from ascend_opentelemetry.symbols._aliases import Builtin, Custom, Handler, Timer, resolve_handler
from ascend_opentelemetry.symbols._bind import bind
from ascend_opentelemetry.symbols._content import read
from ascend_opentelemetry.symbols._expression import Expression, ExpressionError, compile_expression
from ascend_opentelemetry.symbols._loader import load
from ascend_opentelemetry.symbols._path import DEFAULT_FILE, find
from ascend_opentelemetry.symbols._problem import Problem
from ascend_opentelemetry.symbols._symbol import Attribute, Symbol
from ascend_opentelemetry.symbols._versions import applies, installed_version

__all__ = [
    "DEFAULT_FILE",
    "Attribute",
    "Builtin",
    "Custom",
    "Expression",
    "ExpressionError",
    "Handler",
    "Problem",
    "Symbol",
    "Timer",
    "applies",
    "bind",
    "compile_expression",
    "find",
    "installed_version",
    "load",
    "read",
    "resolve_handler",
]
