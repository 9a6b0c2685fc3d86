"""A user's handler that always fails before it calls the original."""


def handle(original_func, this, *args, **kwargs):
    raise RuntimeError("this handler is broken")
