"""Components by name. The decorator keeps the constructor's arguments, so any run can print its own specification.

@register("chunker", "fixed")
class FixedChunker: ...

chunker = create("chunker", {"name": "fixed", "size": 300})
spec_of(chunker)   # {"name": "fixed", "size": 300, "overlap": 80}
"""

from __future__ import annotations

import functools
import importlib
import inspect
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from smartmem.errors import ConfigError, UnknownComponent
from smartmem.rag.site import load_site_components

C = TypeVar("C", bound=type)
Spec = str | Mapping[str, Any]

_NESTED = (Mapping, list, tuple)
_SELF = inspect.Parameter("self", inspect.Parameter.POSITIONAL_ONLY)
_KINDS = ("chunker", "embedder", "store", "retriever", "reranker", "corpus")
_registry: dict[str, dict[str, type]] = {kind: {} for kind in _KINDS}
# Importing one of these packages registers its light classes; heavy libraries are imported in constructors.
_ROOMS = {
    "chunker": "chunk",
    "embedder": "embed",
    "store": "store",
    "retriever": "retrieve",
    "reranker": "rerank",
    "corpus": "corpus",
}


def register(kind: str, name: str) -> Callable[[C], C]:
    """Class decorator: make the class creatable as `name` and record its constructor's arguments."""
    if kind not in _registry:
        raise ConfigError(f"unknown component kind {kind!r}; known are: {', '.join(_KINDS)}")

    def keep(cls: C) -> C:
        original = cls.__init__  # type: ignore[misc]  # wrapping the constructor is what this decorator is for
        # object's own constructor shows (*args, **kwargs), but takes nothing.
        signature = inspect.Signature([_SELF]) if original is object.__init__ else inspect.signature(original)

        @functools.wraps(original)
        def init(self: Any, *args: Any, **kwargs: Any) -> None:
            bound = signature.bind(self, *args, **kwargs)
            bound.apply_defaults()
            arguments = {k: v for k, v in list(bound.arguments.items())[1:] if v is not None}
            object.__setattr__(self, "_spec", {"name": name, **arguments})
            original(self, *args, **kwargs)

        init.__signature__ = signature  # type: ignore[attr-defined]  # what `create` checks options against
        cls.__init__ = init  # type: ignore[misc]
        _registry[kind][name] = cls
        return cls

    return keep


def names(kind: str) -> list[str]:
    """The registered names of one kind, sorted."""
    _load(kind)
    return sorted(_registry[kind])


def component(kind: str, name: str) -> type:
    """The class behind a name. Raises `UnknownComponent`."""
    _load(kind)
    found = _registry[kind].get(name)
    if found is None:
        raise UnknownComponent(kind, name, list(_registry[kind]))
    return found


def create(kind: str, spec: Spec, **injected: Any) -> Any:
    """Make a component from its name or `{"name": …, option: …}`.

    `injected` are live objects (an embedder, a store) handed to constructors that take them.
    Raises `UnknownComponent` for the name and `ConfigError` for options that the constructor does not take
    and for those that it cannot do without.
    """
    _load(kind)
    options = {"name": spec} if isinstance(spec, str) else dict(spec)
    try:
        name = options.pop("name")
    except KeyError:
        raise ConfigError(f"{kind} {options!r} has no name; write name = one of {', '.join(names(kind))}") from None
    cls = component(kind, name)
    taken = inspect.signature(cls).parameters
    unknown = sorted(set(options) - set(taken))
    if unknown:
        allowed = list(taken)
        raise ConfigError(f"{kind} {name!r} takes no option {unknown[0]!r}; it takes: {', '.join(allowed) or 'none'}")
    given = {k: v for k, v in injected.items() if k in taken and k not in options}
    for option, parameter in taken.items():
        # A class without a constructor of its own has object's: *args and **kwargs, which ask for nothing.
        asked = parameter.default is parameter.empty and parameter.kind is parameter.POSITIONAL_OR_KEYWORD
        if asked and option not in options and option not in given:
            raise ConfigError(f"{kind} {name!r} needs the option {option!r}; it takes: {', '.join(taken)}")
    made: Any = cls(**options, **given)
    # What was injected belongs to whoever injected it, and stands in that one's specification.
    object.__setattr__(made, "_spec", {k: v for k, v in made._spec.items() if k not in given})
    return made


def spec_of(component: Any) -> dict[str, Any]:
    """The specification that would make this component again; components inside it are specifications too.

    An option that the component keeps under its own name (a hybrid's `parts`) is shown as what was made of it, with
    every default spelled out.
    """
    return {k: _plain(getattr(component, k, v) if isinstance(v, _NESTED) else v) for k, v in component._spec.items()}


def _plain(value: Any) -> Any:
    if hasattr(value, "_spec"):
        return spec_of(value)
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    if isinstance(value, Mapping):
        return {k: _plain(v) for k, v in value.items()}
    return value


def _load(kind: str) -> None:
    if kind not in _ROOMS:
        raise ConfigError(f"unknown component kind {kind!r}; known are: {', '.join(_KINDS)}")
    importlib.import_module(f"smartmem.rag.{_ROOMS[kind]}")
    load_site_components()
