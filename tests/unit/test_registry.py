"""Names lead to implementations, which are imported only when asked for."""

from __future__ import annotations

import sys

import pytest

from engine.errors import UsageError
from engine.registry import Registry


def table() -> Registry[type]:
    return Registry("fruit", {"apple": "wsgiref.types:StartResponse", "pear": "no.such:Pear"})


def test_nothing_is_imported_before_it_is_asked_for() -> None:
    sys.modules.pop("wsgiref.types", None)
    fruits = table()
    assert "wsgiref.types" not in sys.modules
    assert fruits.get("apple") is fruits.get("apple")
    assert "wsgiref.types" in sys.modules


def test_an_unknown_name_says_what_was_meant() -> None:
    with pytest.raises(UsageError, match=r"unknown fruit: 'aple'.*Did you mean apple\?"):
        table().get("aple")


def test_what_cannot_be_loaded_or_registered_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match="could not be loaded"):
        table().get("pear")
    with pytest.raises(UsageError, match="package.module:Class"):
        table().register("fig", "Fig")


def test_an_entry_can_be_added_and_replaced() -> None:
    fruits = table()
    fruits.register("pear", "builtins:dict")
    fruits.register("fig", "builtins:list")
    assert (fruits.get("pear"), fruits.get("fig")) == (dict, list)
    assert fruits.names() == ("apple", "pear", "fig")
    assert "fig" in fruits and "kiwi" not in fruits
    assert repr(fruits) == "<Registry of fruit: apple, pear, fig>"
