"""A checker of isolation: which anomalies does a history of transactions prove?

After Kyle Kingsbury and Peter Alvaro, "Elle: Inferring Isolation Anomalies from Experimental Observations", VLDB 2020; the
anomalies' names are theirs and those of Atul Adya, "Weak Consistency", 1999.

The transactions of a history read lists and append to them, every value once. So a list that was read tells which
appends came before it, and in which order: the order of a key's versions is that of the longest list that was read. From
it follow the dependencies between transactions:

    ww      one appended right behind the other
    wr      one read the version that the other made
    rw      one read a version, and the other made the next
    time    one had ended before the other began

A cycle of dependencies is an anomaly, named for the kinds of its edges. A cycle is reported without time where it needs
none. This module knows nothing of stores.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

#: What must never be, whatever the isolation.
_NEVER = (
    *("internal", "garbage read", "G1a", "G1b", "duplicate", "incompatible order", "lost update"),
    *("G0", "G1c", "G-single", "G-nonadjacent", "G0-time", "G1c-time", "G-single-time", "G-nonadjacent-time"),
)
#: The anomalies that each isolation forbids. Snapshots allow only cycles with two rw edges in a row: write skew.
FORBIDDEN = {
    "snapshot": frozenset(_NEVER),
    "serializable": frozenset([*_NEVER, "G2", "G2-time"]),
}


class Read(NamedTuple):
    """A list that was read."""

    key: str
    values: tuple[int, ...]


class Append(NamedTuple):
    """A value that was appended to a list; the value is appended once in the whole history."""

    key: str
    value: int


@dataclass(frozen=True)
class Transaction:
    """A transaction as its client knows it.

    Attributes:
        ops: What it did, in order.
        outcome: "ok"; "fail" if it can't have been committed; "info" if nobody knows.
        invoked: When it began, or before.
        completed: When it had ended, or after; infinity if nobody knows.
        name: What to call it.
    """

    ops: tuple[Read | Append, ...]
    outcome: str = "ok"
    invoked: float = 0
    completed: float = math.inf
    name: str = ""


class Anomaly(NamedTuple):
    """What a history proves.

    Attributes:
        kind: Its name.
        told: What was seen.
    """

    kind: str
    told: str


def check(history: Sequence[Transaction]) -> list[Anomaly]:
    """Return the anomalies of a history.

    Raises:
        ValueError: A value is appended twice, so nothing can be inferred.
    """
    return list(_Checker(history).anomalies())


def forbidden(history: Sequence[Transaction], isolation: str) -> list[Anomaly]:
    """Return those anomalies of a history that an isolation forbids."""
    return [anomaly for anomaly in check(history) if anomaly.kind in FORBIDDEN[isolation]]


def with_what_the_failed_read(history: Iterable[Transaction]) -> list[Transaction]:
    """Return a history in which what a failed transaction has read counts, too.

    For each one that failed there is another that has succeeded and has only read: what stood in a key before the failed
    one appended to it. Where a transaction sees one snapshot whatever becomes of it, this adds no anomaly.
    """
    history = list(history)
    for transaction in list(history):
        appended: set[str] = set()
        reads: list[Read] = []
        for op in transaction.ops:
            if isinstance(op, Append):
                appended.add(op.key)
            elif op.key not in appended:
                reads.append(op)
        if transaction.outcome == "fail" and reads:
            history.append(
                Transaction(
                    tuple(reads), "ok", transaction.invoked, transaction.completed, f"reads of {transaction.name}"
                )
            )
    return history


class _Seen(NamedTuple):
    """A version that a transaction has read and not made itself."""

    by: int
    key: str
    version: tuple[int, ...]


class _Checker:
    def __init__(self, history: Sequence[Transaction]) -> None:
        self.history = history
        self.found: list[Anomaly] = []
        self.writer: dict[tuple[str, int], int] = {}
        self.last: dict[tuple[int, str], int] = {}  # the last value that a transaction appends to a key
        for number, transaction in enumerate(history):
            for op in transaction.ops:
                if isinstance(op, Append):
                    if (op.key, op.value) in self.writer:
                        message = f"{op.value} is appended to {op.key} twice; nothing can be inferred from that"
                        raise ValueError(message)
                    self.writer[op.key, op.value] = number
                    self.last[number, op.key] = op.value
        self.committed = self._committed()
        self.seen = [seen for number in sorted(self.committed) for seen in self._seen(number)]
        self.graph: dict[int, dict[int, dict[str, str]]] = {number: {} for number in self.committed}

    def anomalies(self) -> Iterator[Anomaly]:
        self._check_values()
        orders = self._orders()
        self._check_updates()
        self._infer(orders)
        yield from self.found
        yield from _Cycles(self.graph, self._tell).anomalies()

    def _tell(self, number: int) -> str:
        return self.history[number].name or f"T{number}"

    def _report(self, kind: str, told: str) -> None:
        self.found.append(Anomaly(kind, told))

    def _committed(self) -> set[int]:
        """Return those that succeeded, and those of unknown outcome of which somebody has seen something."""
        committed = {number for number, transaction in enumerate(self.history) if transaction.outcome == "ok"}
        waiting = list(committed)
        while waiting:
            for op in self.history[waiting.pop()].ops:
                for value in op.values if isinstance(op, Read) else ():
                    writer = self.writer.get((op.key, value))
                    if writer is not None and writer not in committed and self.history[writer].outcome == "info":
                        committed.add(writer)
                        waiting.append(writer)
        return committed

    def _seen(self, number: int) -> Iterator[_Seen]:
        """Yield the version of each key that a transaction has read of others; check that its own view is one."""
        versions: dict[str, tuple[int, ...]] = {}
        own: dict[str, tuple[int, ...]] = {}
        for op in self.history[number].ops:
            mine = own.get(op.key, ())
            if isinstance(op, Append):
                own[op.key] = (*mine, op.value)
                continue
            before = op.values[: len(op.values) - len(mine)]
            if op.values[len(before) :] != mine or versions.get(op.key, before) != before:
                expected = (*versions[op.key], *mine) if op.key in versions else ("...", *mine)
                self._report("internal", f"{self._tell(number)} reads {op.key} as {op.values}, not as {expected}")
            elif op.key not in versions:
                versions[op.key] = before
        for key, version in versions.items():
            yield _Seen(number, key, version)

    def _check_values(self) -> None:
        for by, key, version in self.seen:
            who = self._tell(by)
            if len(set(version)) < len(version):
                self._report("duplicate", f"{who} reads {key} as {version}")
            for value in version:
                writer = self.writer.get((key, value))
                if writer is None:
                    self._report("garbage read", f"{who} reads {value} in {key}, which nobody has appended")
                elif writer == by:
                    self._report("internal", f"{who} reads {value} in {key} before appending it")
                elif self.history[writer].outcome == "fail":
                    self._report("G1a", f"{who} reads {value} in {key}, of {self._tell(writer)}, which has failed")
            writer = self.writer.get((key, version[-1])) if version else None
            if writer is not None and self.last[writer, key] != version[-1]:
                self._report(
                    "G1b", f"{who} reads {key} as {version}: what {self._tell(writer)} had in the middle of its work"
                )

    def _orders(self) -> dict[str, tuple[int, ...]]:
        """Return the order of each key's values: the longest list that was read."""
        orders: dict[str, tuple[int, ...]] = {key: () for key, _ in self.writer}
        lists = [(op.key, op.values) for n in self.committed for op in self.history[n].ops if isinstance(op, Read)]
        for key, values in lists:
            if len(values) > len(orders.get(key, ())):
                orders[key] = values
        for key, values in sorted(set(lists)):
            if orders.get(key, ())[: len(values)] != values:
                self._report("incompatible order", f"{key} was read as {values} and as {orders[key]}")
        return orders

    def _check_updates(self) -> None:
        updates: dict[tuple[str, tuple[int, ...]], list[int]] = {}
        for by, key, version in self.seen:
            if (by, key) in self.last:
                updates.setdefault((key, version), []).append(by)
        for (key, version), by in updates.items():
            if len(by) > 1:
                who = " and ".join(map(self._tell, by))
                self._report("lost update", f"{who} both read {key} as {version} and appended to it")

    def _infer(self, orders: dict[str, tuple[int, ...]]) -> None:
        unseen: dict[str, list[int]] = {}
        places = {key: set(order) for key, order in orders.items()}
        for (key, value), writer in self.writer.items():
            if writer in self.committed and value not in places[key]:
                unseen.setdefault(key, []).append(writer)
        for key, order in orders.items():
            writers = [self.writer.get((key, value)) for value in order]
            for at in range(1, len(order)):
                self._edge(writers[at - 1], writers[at], "ww", f"{key}: {order[at]} behind {order[at - 1]}")
            # What nobody has seen can only stand behind all that was seen.
            for writer in unseen.get(key, ()) if order else ():
                self._edge(writers[-1], writer, "ww", f"{key}: unseen behind {order[-1]}")
        for by, key, version in self.seen:
            order = orders.get(key, ())
            if order[: len(version)] != version:
                continue
            if version:
                self._edge(self.writer.get((key, version[-1])), by, "wr", f"{key}: {version[-1]}")
            if len(version) < len(order):
                following = order[len(version)]
                self._edge(by, self.writer.get((key, following)), "rw", f"{key}: not {following}")
            else:
                for writer in unseen.get(key, ()):
                    self._edge(by, writer, "rw", f"{key}: not what {self._tell(writer)} appended")
        self._infer_times()

    def _infer_times(self) -> None:
        """Add an edge from each transaction to those that began after its end, as far as others don't imply it."""
        events = sorted(
            [(self.history[number].completed, 1, number) for number in self.committed]
            + [(self.history[number].invoked, 0, number) for number in self.committed]
        )
        ended: set[int] = set()  # without those that ended before another one of these began
        before: dict[int, set[int]] = {}
        for time, ends, number in events:
            if not ends:
                before[number] = set(ended)
                for other in ended:
                    self._edge(other, number, "time", "began after its end")
            elif time < math.inf:
                ended -= before[number]
                ended.add(number)

    def _edge(self, one: int | None, other: int | None, kind: str, told: str) -> None:
        if one is None or other is None or one == other or not {one, other} <= self.committed:
            return
        self.graph[one].setdefault(other, {}).setdefault(kind, told)


#: A transaction, and whether it was come to by an rw edge.
_Node = tuple[int, bool]


class _Cycles:
    """The anomalies of a graph: transaction -> following transaction -> kind of dependency -> why."""

    def __init__(self, graph: dict[int, dict[int, dict[str, str]]], tell: Callable[[int], str]) -> None:
        self.graph = graph
        self.tell = tell

    def anomalies(self) -> Iterator[Anomaly]:
        plain = set()
        for kind, cycle in self._kinds(frozenset()):
            plain.add(kind)
            yield Anomaly(kind, cycle)
        for kind, cycle in self._kinds(frozenset(["time"])):
            if kind not in plain:  # a cycle that needs no time says it better
                yield Anomaly(f"{kind}-time", cycle)

    def _kinds(self, times: frozenset[str]) -> Iterator[tuple[str, str]]:
        for cycle in self._cycles({"ww"} | times, "ww"):
            yield "G0", cycle
        for cycle in self._cycles({"ww", "wr"} | times, "wr"):
            yield "G1c", cycle
        yield from self._cycles_with_rw({"ww", "wr"} | times)

    def _cycles(self, kinds: set[str] | frozenset[str], at_least: str) -> Iterator[str]:
        """Yield a cycle of these kinds for each component that has one with an edge of the kind `at_least`."""
        for part in components(self._restricted(kinds)):
            for one in part:
                others = [n for n, why in self.graph[one].items() if n in part and at_least in why]
                if others:
                    path = self._path((others[0], False), {(one, False), (one, True)}, kinds, part, rw="no")
                    yield self._told([one, *path], [at_least])
                    break

    def _cycles_with_rw(self, kinds: set[str] | frozenset[str]) -> Iterator[tuple[str, str]]:
        """Yield (kind, cycle) of cycles with an rw edge, one of each kind for each component."""
        for part in components(self._restricted(kinds | {"rw"})):
            edges = [(one, other) for one in part for other, why in self.graph[one].items() if "rw" in why]
            edges = [(one, other) for one, other in edges if other in part]
            # One rw edge; several, but never two in a row; any.
            for kind, rw in (("G-single", "no"), ("G-nonadjacent", "apart"), ("G2", "any")):
                cycle = next(self._closing(edges, kinds, part, rw), None)
                if cycle is not None:
                    yield kind, cycle
                    if kind != "G2":
                        break

    def _closing(
        self, edges: list[tuple[int, int]], kinds: set[str] | frozenset[str], part: set[int], rw: str
    ) -> Iterator[str]:
        for one, other in edges:
            ends = {(one, False)} if rw != "any" else {(one, False), (one, True)}
            path = self._path((other, True), ends, kinds, part, rw=rw)
            if path:
                yield self._told([one, *path], ["rw"])

    def _path(
        self, start: _Node, ends: set[_Node], kinds: set[str] | frozenset[str], part: set[int], *, rw: str
    ) -> list[int]:
        """Return a shortest path; of rw edges it has none, none behind another, or any."""
        came: dict[_Node, _Node | None] = {start: None}
        waiting = deque([start])
        while waiting:
            node = waiting.popleft()
            if node in ends:
                path: list[int] = []
                back: _Node | None = node
                while back is not None:
                    path.append(back[0])
                    back = came[back]
                return path[::-1]
            for other, why in self.graph[node[0]].items():
                if other not in part:
                    continue
                following = [(other, False)] if kinds & why.keys() else []
                if "rw" in why and (rw == "any" or (rw == "apart" and not node[1])):
                    following.append((other, True))
                for reached in following:
                    if reached not in came:
                        came[reached] = node
                        waiting.append(reached)
        return []

    def _restricted(self, kinds: set[str] | frozenset[str]) -> dict[int, list[int]]:
        return {
            one: [other for other, why in others.items() if kinds & why.keys()] for one, others in self.graph.items()
        }

    def _told(self, path: list[int], first: list[str]) -> str:
        parts = [self.tell(path[0])]
        for at in range(1, len(path)):
            why = self.graph[path[at - 1]][path[at]]
            kind = first[0] if at == 1 else min(why, key=["ww", "wr", "time", "rw"].index)
            parts.append(f"-{kind} ({why[kind]})-> {self.tell(path[at])}")
        return " ".join(parts)


def components(graph: dict[int, list[int]]) -> list[set[int]]:
    """Return the strongly connected components that hold a cycle, in Tarjan's way, with no recursion."""
    index: dict[int, int] = {}
    low: dict[int, int] = {}
    stack: list[int] = []
    stacked: set[int] = set()
    found: list[set[int]] = []
    work: list[tuple[int, Iterator[int]]] = []

    def enter(node: int) -> None:
        index[node] = low[node] = len(index)
        stack.append(node)
        stacked.add(node)
        work.append((node, iter(graph[node])))

    for root in graph:
        if root not in index:
            enter(root)
        while work:
            node, others = work[-1]
            for other in others:
                if other not in index:
                    enter(other)
                    break
                if other in stacked:
                    low[node] = min(low[node], index[other])
            else:
                work.pop()
                if work:
                    low[work[-1][0]] = min(low[work[-1][0]], low[node])
                if low[node] == index[node]:
                    part = {stack.pop()}
                    while node not in part:
                        part.add(stack.pop())
                    stacked.difference_update(part)
                    if len(part) > 1:
                        found.append(part)
    return found
