"""What changes of a hook that stays in place, so that it reaches those who keep it, and costs its calls nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol, TypeAlias, runtime_checkable
from weakref import WeakKeyDictionary

from ascend_opentelemetry.hooks._handler import Handler

#: Gives a hook another original and another handler.
Put: TypeAlias = "Callable[[Callable[..., Any], Handler], None]"
#: Asked with the positional arguments of a call whether the hook has to do with it.
Concerns: TypeAlias = "Callable[[tuple[Any, ...]], bool]"

_PASSED = object()


@runtime_checkable
class Restrictable(Protocol):
    """A hook, or what made it."""

    def restrict(self, concerns: Concerns) -> None:
        """From now on only calls that concern it are recorded; the others are passed through."""
        ...


class Control:
    """Of a hook that calls its original itself.

    Args:
        original: what it calls.
        handler: what it tells of its calls.
        put: of the hook.
    """

    def __init__(self, original: Callable[..., Any], handler: Handler, put: Put) -> None:
        self.original = original
        self._handler = handler
        self._put = put

    def put_inside(self, hook: Callable[..., Any]) -> Callable[[], None]:
        """Call another hook, which is around ``original``, in its place.

        Returns:
            Takes it out again; of several, the last one put there is the first one to come out.
        """
        before = self.original
        self._set_original(hook)
        return lambda: self._set_original(before)

    def _set_original(self, original: Callable[..., Any]) -> None:
        self.original = original
        self._put(original, self._handler)

    def restrict(self, concerns: Concerns) -> None:
        self._handler = _Restricted(self._handler, concerns)
        self._put(self.original, self._handler)


class _Restricted:
    """A handler that is told of the calls that concern it."""

    def __init__(self, handler: Handler, concerns: Concerns) -> None:
        self._handler = handler
        self._concerns = concerns
        self.switch = handler.switch

    def enter(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        return self._handler.enter(args, kwargs) if self._concerns(args) else _PASSED

    def exit(
        self,
        state: Any,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        result: Any,
        error: BaseException | None,
    ) -> None:
        if state is not _PASSED:
            self._handler.exit(state, args, kwargs, result, error)


_controls: WeakKeyDictionary[Callable[..., Any], Restrictable] = WeakKeyDictionary()


def keep_control(hook: Callable[..., Any], control: Restrictable) -> None:
    """Note by what a hook is changed."""
    _controls[hook] = control


def control_of(hook: Callable[..., Any]) -> Restrictable | None:
    """By what a hook is changed; ``Control`` where another one can be put inside, None where nothing can change."""
    return _controls.get(hook)
