"""Components by name: specifications that make the same component again, and errors that name the option."""

from __future__ import annotations

import pytest

from smartmem.errors import ConfigError, UnknownComponent
from smartmem.rag.registry import create, names, spec_of


@pytest.mark.parametrize("kind", ["chunker", "embedder", "store", "retriever", "reranker", "corpus"])
def test_every_kind_has_components(kind: str) -> None:
    assert names(kind)


def test_a_specification_makes_the_same_component_again() -> None:
    made = create("chunker", {"name": "fixed", "size": 300})
    spec = spec_of(made)
    assert spec == {"name": "fixed", "size": 300, "overlap": 80, "context": True}
    assert spec_of(create("chunker", spec)) == spec


def test_a_component_without_options() -> None:
    assert spec_of(create("reranker", "none")) == {"name": "none"}
    with pytest.raises(ConfigError, match="takes no option 'size'"):
        create("reranker", {"name": "none", "size": 3})


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("paragraph", "unknown chunker 'paragraph'; known are: .*fixed"),
        ({"name": "fixed", "length": 3}, "takes no option 'length'; it takes: size, overlap, context"),
        ({"size": 3}, "has no name"),
    ],
)
def test_errors_name_the_thing_and_the_next_step(spec: object, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        create("chunker", spec)  # type: ignore[arg-type]


def test_unknown_kind_and_name_are_config_errors() -> None:
    with pytest.raises(ConfigError, match="unknown component kind 'splitter'"):
        create("splitter", "fixed")
    with pytest.raises(UnknownComponent) as caught:
        create("embedder", "word2vec")
    assert caught.value.known == names("embedder")
    with pytest.raises(ConfigError, match="needs the option 'dim'"):
        create("store", "memory")
