"""What a hook asks of the code that knows the hooked function."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol, runtime_checkable


class Switch(Protocol):
    """Read on every call: whether anything is recorded."""

    @property
    def on(self) -> bool: ...


class Handler(Protocol):
    """Says what a call of one function records.

    The hook calls the original itself, exactly once: a handler that raises never changes what the caller sees.
    """

    @property
    def switch(self) -> Switch: ...

    def enter(self, args: tuple[Any, ...], kwargs: Mapping[str, Any], /) -> Any:
        """Run before the call; what it returns comes back in ``exit``."""
        ...

    def exit(
        self,
        state: Any,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        result: Any,
        error: BaseException | None,
        /,
    ) -> None:
        """Run after the call, or after the coroutine or generator ended, with its result or exception."""
        ...


@runtime_checkable
class Wrapper(Protocol):
    """For functions whose result has to be replaced, such as context manager factories."""

    def wrap(self, original: Callable[..., Any], /) -> Callable[..., Any]: ...
