"""Numbered transactions, and what must be in a store after each of them.

A step changes whatever it is given: a store, or a plain dict, which so is the model. Steps put, change and remove names and
records, small ones and some of many pages; what the last one was stands in the store.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any
from zlib import crc32

import pstore
from pstore import rows
from pstore.backends import open_backend

if TYPE_CHECKING:
    from collections.abc import MutableMapping

Content = dict[str, Any]


@pstore.persistent
class Item:
    """Has a record of its own, which changes in place or is replaced."""

    def __init__(self, number: int, payload: bytes, other: Item | None) -> None:
        self.number = number
        self.payload = payload
        self.counts = {"seen": 0}
        self.other = other


def step(names: MutableMapping[str, Any], number: int) -> None:
    """Make the changes of one transaction."""
    rng = random.Random(number)
    size = 150_000 if number % 10 == 0 else rng.randrange(6000 if number % 3 == 0 else 200)
    slot, other = f"item {number % 11}", names.get(f"item {(number - 1) % 11}")
    if number % 3 and slot in names:
        item = names[slot]
        item.number, item.payload, item.other = number, rng.randbytes(size), other
        item.counts["seen"] += 1
    else:
        names[slot] = Item(number, rng.randbytes(size), other)
    if "history" in names:
        names["history"].append(number)
        del names["history"][:-20]
    else:
        names["history"] = [number]
    if number % 2:
        names[f"passing {'é' * rng.randrange(30)} {number}"] = "x" * rng.randrange(300)
    else:
        for name in [name for name in names if name.endswith(f" {number - 61}")]:
            del names[name]
    names["last"] = number


def look(value: object) -> Any:
    """Return what stands under a name, as something that compares; objects that it leads to included."""
    if not isinstance(value, Item):
        return list(value) if isinstance(value, list) else value
    other = value.other
    return [
        value.number,
        len(value.payload),
        crc32(value.payload),
        dict(value.counts),
        None if other is None else [other.number, crc32(other.payload), dict(other.counts)],
    ]


class Model:
    """What is in a store after each transaction; asked for ascending numbers it takes each step once."""

    def __init__(self) -> None:
        self._names: dict[str, Any] = {}
        self._number = 0

    def after(self, number: int) -> Content:
        """Return the content after a transaction, as `look` shows it."""
        if number < self._number:
            self.__init__()
        while self._number < number:
            self._number += 1
            step(self._names, self._number)
        return {name: look(value) for name, value in self._names.items()}


def grow(db: pstore.Store, number: int) -> None:
    """Take all steps from the one behind the last in the store up to this one, a commit each."""
    for each in range(db.get("last", 0) + 1, number + 1):
        step(db, each)
        db.commit(f"step {each}")


def read_whole(url: str, flag: str = "r") -> Content:
    """Return the content of a store, after looking at each row of every table."""
    backend = open_backend(url, flag)
    try:
        reader = backend.begin()
        places: dict[Any, Any] = {
            "records": rows.record_place,
            "names": rows.name_place,
            "log": rows.log_place,
            "meta": rows.meta_place,
        }
        found = {
            table: {key: bytes(rows.unseal(place(key), row).body) for key, row in reader.scan(table)}
            for table, place in places.items()
        }
        reader.rollback()
    finally:
        backend.close()
    if found["meta"]:
        head = rows.unpack_head(memoryview(found["meta"]["head"]))
        assert len(found["names"]) == head.names, f"{len(found['names'])} names, where the head counts {head.names}"
        assert sorted(found["log"]) == list(range(1, head.revision + 1)), "the log has holes"
    with pstore.open(url, flag) as db:
        content = {name: look(db[name]) for name in db}
        assert len(content) == len(db)
    return content


def check(url: str, model: Model, acknowledged: int, *, uncertain: int, flag: str = "r") -> int:
    """Raise AssertionError unless a store has every acknowledged transaction whole, and no half of any other.

    Args:
        url: The store.
        model: What it should hold.
        acknowledged: The number of the last transaction of which a commit has returned.
        uncertain: How many further ones may be there, whole.
        flag: How to open it.

    Returns:
        The number of the last transaction that is there.
    """
    content = read_whole(url, flag)
    number = content.get("last", 0)
    assert acknowledged <= number <= acknowledged + uncertain, f"{acknowledged} were acknowledged, {number} are there"
    assert content == model.after(number), f"the content isn't that of transaction {number}"
    return number
