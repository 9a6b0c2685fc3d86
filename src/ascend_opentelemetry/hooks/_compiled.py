"""Functions that ``torch.compile`` traces: a hook in them would break or change the graph."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Iterator
from inspect import getattr_static
from types import CodeType, FunctionType, ModuleType
from typing import Any

from ascend_opentelemetry.hooks._references import is_class_of

#: ``support_torch_compile`` gives a class a base of this module, under different names in different versions of vLLM.
_WRAPPER_MODULE = "vllm.compilation.wrapper"
#: ``ignore_torch_compile`` sets it to True.
_IGNORE = "_ignore_compile_vllm"


def compiled_by(module: ModuleType, function: Any) -> str | None:
    """The class whose compiled ``forward`` runs ``function``, as far as the code of its module tells.

    Args:
        module: where the function was found; the one that defines it is looked through too.
        function: as its class or module holds it.

    Returns:
        Name of the class; None if there is none.
    """
    if not isinstance(function, FunctionType):
        return None
    home = sys.modules.get(function.__module__ or "")
    for place in (module,) if home is None else (module, home):
        for value in list(vars(place).values()):
            if is_class_of(value, place) and _is_compiled(value) and function in _traced(place, value):
                return value.__name__
    return None


def _is_compiled(cls: type) -> bool:
    return any(base.__module__ == _WRAPPER_MODULE for base in cls.__mro__[1:]) and not getattr(cls, _IGNORE, False)


def _traced(module: ModuleType, cls: type) -> set[Callable[..., Any]]:
    """What ``forward`` of a class calls: own methods, functions of its module, ``forward`` of the parts it makes."""
    functions: set[Callable[..., Any]] = set()
    classes = [cls]
    for part in classes:  # grows
        todo = ["forward"]
        while todo:
            name = todo.pop()
            for holder in (*part.__mro__, module):  # overridden methods too: super() calls them
                function = _plain(vars(holder).get(name))
                if function is not None and function not in functions:
                    functions.add(function)
                    todo += _names(function)
        for made in _made(module, part):
            if made not in classes:
                classes.append(made)
    return functions


def _made(module: ModuleType, cls: type) -> Iterator[type]:
    """Classes of the module with a ``forward`` that the constructor of a class names or has for a default."""
    for init in _layers(_plain(getattr_static(cls, "__init__", None))):
        defaults = (*(init.__defaults__ or ()), *(init.__kwdefaults__ or {}).values())
        named = (getattr_static(holder, name, None) for name in _names(init) for holder in (cls, module))
        for value in (*defaults, *named):
            if is_class_of(value, module) and hasattr(value, "forward"):
                yield value


def _layers(function: FunctionType | None) -> Iterator[FunctionType]:
    """A function and those that it was put around."""
    if function is None:
        return
    yield function
    for cell in function.__closure__ or ():
        try:
            inner = cell.cell_contents
        except ValueError:  # not assigned yet
            continue
        if isinstance(inner, FunctionType) and inner.__name__ == function.__name__:
            yield from _layers(inner)


def _plain(attribute: Any) -> FunctionType | None:
    function = attribute.__func__ if isinstance(attribute, (staticmethod, classmethod)) else attribute
    return function if isinstance(function, FunctionType) else None


def _names(function: FunctionType) -> list[str]:
    """Global and attribute names in the code of a function and of those inside it."""
    codes = [function.__code__]
    for code in codes:  # grows
        codes += [constant for constant in code.co_consts if isinstance(constant, CodeType)]
    return [name for code in codes for name in code.co_names]


def aside_of_compiler(original: Callable[..., Any], hook: Callable[..., Any]) -> Callable[..., Any]:
    """Have the compiler trace the original: a function may be part of a compiled model that nobody knows of yet.

    The check is a constant for the compiler, so that nothing of ours gets into the graph or its guards. Without torch
    in the process, which is not imported for it, the hook is as it was.
    """
    is_compiling: Callable[[], bool] | None = getattr(
        getattr(sys.modules.get("torch"), "compiler", None), "is_compiling", None
    )
    if is_compiling is None:
        return hook

    @functools.wraps(original)
    def choose(*args: Any, **kwargs: Any) -> Any:
        if is_compiling():
            return original(*args, **kwargs)
        return hook(*args, **kwargs)

    return choose
