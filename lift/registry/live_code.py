"""Hashes of classes that no source file defines, as those of a notebook or of the interpreter."""

import ast
import dis
import functools
import hashlib
import inspect
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from types import CodeType, FunctionType, MethodType, ModuleType
from typing import Any

from lift.registry.fingerprint import PACKAGE, source_fingerprint

_PLAIN = (type(None), type(...), bool, int, float, complex, str, bytes)
"""Types whose values are hashed by their `repr`."""

_BOOKKEEPING = {
    "__module__",
    "__qualname__",
    "__doc__",
    "__dict__",
    "__weakref__",
    "__annotations__",
    "__annotate__",
    "__annotate_func__",
    "__annotations_cache__",
    "__firstlineno__",
    "__static_attributes__",
    "__abstractmethods__",
    "_abc_impl",
    "__parameters__",
    "__orig_bases__",
    "__slotnames__",
}
"""Attributes of a class that do not change what it computes."""


def defining_file(component: type) -> Path | None:
    """Find the source file that defines a class.

    Args:
        component: The class.

    Returns:
        The file. None for a class of a notebook, of the interpreter or of `exec`.
    """
    try:
        file = Path(inspect.getfile(component))
        tree = ast.parse(file.read_text(encoding="utf-8"))
    except (OSError, TypeError, SyntaxError, ValueError):
        return None
    # In a notebook or a test, the module `__main__` may have the file of another program.
    names = {node.name for node in ast.walk(tree) if isinstance(node, ast.ClassDef)}
    return file if component.__name__ in names else None


def code_fingerprint(component: type) -> str:
    """Hash a class by its compiled code, and by all that the code uses.

    The hash covers:

    - methods, attributes and base classes of the class
    - functions, classes and values of the notebook that its code names, wherever they are defined.
      Values are plain ones, containers of these, arrays and tensors. Other objects count by their
      type alone.
    - the modules of `lift` that its code names, as for a class in a file

    Comments, the docstring of the class and the place of its code do not count. Other packages
    count by the names that are used.

    Args:
        component: The class.

    Returns:
        12 hexadecimal digits. They are the same in every session of one version of Python.
    """
    text = json.dumps(_describe(component, {}))
    return hashlib.sha256(text.encode()).hexdigest()[:12]


_Seen = dict[int, tuple[int, Any]]
"""Id of an object -> its number and the object, which keeps its id from being used again."""


def _describe(value: Any, seen: _Seen) -> Any:
    """Describe a value by nested lists of texts."""
    if isinstance(value, _PLAIN):
        return [type(value).__name__, repr(value)]
    if isinstance(value, os.PathLike):
        return ["path", str(value)]
    if id(value) in seen:
        return ["again", seen[id(value)][0]]
    seen[id(value)] = len(seen), value
    if isinstance(value, CodeType):
        return _describe_code(value, seen)
    if isinstance(value, (list, tuple)):
        return [type(value).__name__, *(_describe(item, seen) for item in value)]
    if isinstance(value, (set, frozenset)):
        return [type(value).__name__, *sorted(json.dumps(_describe(v, seen)) for v in value)]
    if isinstance(value, dict):
        items = [[_describe(key, seen), _describe(item, seen)] for key, item in value.items()]
        return ["dict", *items]
    if isinstance(value, ModuleType):
        return ["module", value.__name__, _lift_fingerprint(value.__name__)]
    if isinstance(value, type):
        return _describe_class(value, seen)
    return _describe_callable(value, seen) or _describe_array(value) or _describe_object(value)


def _describe_class(value: type, seen: _Seen) -> Any:
    """Describe a class: by its name if a file defines it, else by its content."""
    if value.__module__ == "builtins" or defining_file(value) is not None:
        return _name_of(value)
    members = {
        name: member for name, member in sorted(vars(value).items()) if name not in _BOOKKEEPING
    }
    return [
        "class",
        value.__qualname__,
        [_describe(base, seen) for base in value.__bases__],
        [[name, _describe(member, seen)] for name, member in members.items()],
    ]


def _describe_callable(value: Any, seen: _Seen) -> Any:
    """Describe a function, a method or what wraps one; None for other objects."""
    if isinstance(value, (staticmethod, classmethod, MethodType)):
        return [type(value).__name__, _describe(value.__func__, seen)]
    if isinstance(value, property):
        return ["property", *(_describe(f, seen) for f in (value.fget, value.fset, value.fdel))]
    if isinstance(value, functools.partial):
        parts = (value.func, value.args, value.keywords)
        return ["partial", *(_describe(part, seen) for part in parts)]
    is_function = isinstance(value, FunctionType)
    if is_function and not _has_file(value):
        return _describe_function(value, seen)
    # Decorators of `functools.wraps` and of numba name the function that they wrap.
    for attribute in ("__wrapped__", "py_func"):
        if (inner := getattr(value, "__dict__", {}).get(attribute)) is not None:
            return [*_describe_object(value), _describe(inner, seen)]
    return _name_of(value) if is_function else None


def _describe_function(value: FunctionType, seen: _Seen) -> Any:
    """Describe a function by its code, and by what the code reads from outside."""
    used = sorted(set(_global_names(value.__code__)) & set(value.__globals__))
    cells = [cell.cell_contents for cell in value.__closure__ or () if _is_filled(cell)]
    return [
        "function",
        _describe(value.__code__, seen),
        _describe(value.__defaults__, seen),
        _describe(value.__kwdefaults__, seen),
        [_describe(cell, seen) for cell in cells],
        [[name, _describe(value.__globals__[name], seen)] for name in used],
    ]


def _describe_code(code: CodeType, seen: _Seen) -> Any:
    """Describe compiled code without its file and its lines."""
    names = (code.co_names, code.co_varnames, code.co_freevars, code.co_cellvars)
    return [
        "code",
        code.co_code.hex(),
        [code.co_flags, code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount],
        *(list(group) for group in names),
        [_describe(constant, seen) for constant in code.co_consts],
    ]


def _describe_array(value: Any) -> Any:
    """Describe an array of numpy or a tensor of torch by its content; None for other objects."""
    torch = sys.modules.get("torch")
    numpy = sys.modules.get("numpy")
    kind = [str(getattr(value, "dtype", "")), list(getattr(value, "shape", ()))]
    if torch is not None and isinstance(value, torch.Tensor):
        value = value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy()
    elif numpy is None or not isinstance(value, numpy.ndarray) or value.dtype.hasobject:
        return None
    return ["array", *kind, hashlib.sha256(value.tobytes()).hexdigest()]


def _describe_object(value: Any) -> list[Any]:
    """Describe another object: by its name if it has one, as built-in functions, else its type."""
    is_named = isinstance(getattr(value, "__qualname__", None), str)
    return _name_of(value) if is_named else ["object", *_name_of(type(value))]


def _name_of(value: Any) -> list[Any]:
    """Describe a function or class by its name, and by the source of its module of `lift`."""
    module = str(value.__module__)
    return ["named", module, value.__qualname__, _lift_fingerprint(module)]


def _lift_fingerprint(module: str) -> str:
    """Hash the source of a module of `lift`; empty for other modules."""
    file = getattr(sys.modules.get(module), "__file__", None)
    is_own = module.split(".")[0] == PACKAGE
    return source_fingerprint(Path(file)) if is_own and file else ""


def _has_file(function: FunctionType) -> bool:
    """Whether the module of a function has a file that the function is from."""
    file = getattr(sys.modules.get(function.__module__ or ""), "__file__", None)
    own = function.__code__.co_filename
    if not file:
        return False
    return os.path.abspath(own) == os.path.abspath(file) or (
        os.path.exists(own) and os.path.exists(file) and os.path.samefile(own, file)
    )


def _global_names(code: CodeType) -> Iterator[str]:
    """Yield the global names that code reads, those of functions within it included."""
    for instruction in dis.get_instructions(code):
        if instruction.opname in ("LOAD_GLOBAL", "LOAD_NAME"):
            yield instruction.argval
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _global_names(constant)


def _is_filled(cell: Any) -> bool:
    """Whether a variable of an enclosing function has a value."""
    try:
        cell.cell_contents  # noqa: B018
    except ValueError:
        return False
    return True
