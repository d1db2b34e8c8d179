"""What a flow body may not read: it would be read once, at registration, and differ in each process."""

import os
from types import BuiltinFunctionType, MethodType, ModuleType
from typing import Final, NamedTuple


class Impure(NamedTuple):
    """What is read, and what to write instead."""

    what: str
    fix: str


_CLOCK: Final = Impure(
    "the clock", "read it in a step (`ctx.scheduled_for` is the time of a schedule), or take the time as an input"
)
_CHANCE: Final = Impure("chance", "draw it in a step: its result is stored, so every later step sees the same")
_HERE: Final = Impure("its surroundings", "read it in a step, or at the top of the module, or take it as an input")

_NAMES: Final = {
    **dict.fromkeys(("datetime.datetime.now", "datetime.datetime.utcnow", "datetime.datetime.today"), _CLOCK),
    "datetime.date.today": _CLOCK,
    **dict.fromkeys((f"uuid.uuid{n}" for n in (1, 4, 6, 7, 8)), _CHANCE),
    **dict.fromkeys(("os.urandom", "posix.urandom", "os.getrandom", "posix.getrandom"), _CHANCE),
    **dict.fromkeys(("os.getenv", "os.getenvb", "os.getpid", "posix.getpid", "os.getcwd", "posix.getcwd"), _HERE),
    **dict.fromkeys(("socket.gethostname", "_socket.gethostname", "platform.node", "getpass.getuser"), _HERE),
    "builtins.input": _HERE,
}
_MODULES: Final = {
    "time": _CLOCK,
    "random": _CHANCE,
    "_random": _CHANCE,
    "secrets": _CHANCE,
    "uuid_utils": _CHANCE,
    "numpy.random": _CHANCE,
}


def impure(value: object) -> Impure | None:
    """Whether a function, a method or an object gives something else in another process, or the next time."""
    if value is os.environ or value is getattr(os, "environb", None):
        return _HERE
    if isinstance(value, type | ModuleType) or not callable(value):
        return None
    name = _name(value)
    module = next((one for one in _MODULES if name.startswith(one + ".")), None)
    return _MODULES[module] if module is not None else _NAMES.get(name)


def _name(value: object) -> str:
    """`module.function` or `module.Class.method`, under whatever name it was imported."""
    name = getattr(value, "__name__", "")
    owner = getattr(value, "__self__", None)
    if isinstance(value, BuiltinFunctionType | MethodType) and owner is not None and not isinstance(owner, ModuleType):
        kinds = (owner if isinstance(owner, type) else type(owner)).__mro__
        kind = next((one for one in kinds if name in vars(one)), kinds[0])
        return f"{kind.__module__}.{kind.__qualname__}.{name}"
    return f"{getattr(value, '__module__', '')}.{getattr(value, '__qualname__', name)}"
