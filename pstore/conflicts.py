"""What others have committed since the snapshot: whether it goes together with what is about to be written.

The log tells what each commit has changed. What both have written is merged, if the class of the object can do that (its
`__merge__`), or refused. In a serializable transaction what was read counts too: a commit that others have made since must
not have changed any of it. Then the transactions are as good as one after the other, in the order of their commits.

This module reads rows through transactions that it is given; it writes none.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pstore.errors import Conflict, ConflictError
from pstore.keys import code_of, serial_of
from pstore.states import Baseline
from pstore.transactions import changes_since

if TYPE_CHECKING:
    from collections.abc import Callable

    from pstore.aside import Aside
    from pstore.backends.base import Transaction
    from pstore.catalog import Catalog
    from pstore.changes import Changes, Draft
    from pstore.loader import Loader
    from pstore.names import Content, Names
    from pstore.reads import Reads
    from pstore.restoring import Restorer
    from pstore.states import States


@dataclass
class Work:
    """What a commit is about to write.

    Attributes:
        names: The names that were set, with their content, or removed, with None.
        drafts: The records of all objects that were compared, by key, but of those that are idle.
        idle: Keys of objects that haven't changed, and have nothing in them that can (`Changes.idle`).
        changed: Those that are to be written.
        mine: Of those that were merged: what this session would have written; None where it has put that aside, and the
            object hasn't changed since.
    """

    names: dict[str, Content | None] = field(default_factory=dict)
    drafts: dict[int, Draft] = field(default_factory=dict)
    idle: list[int] = field(default_factory=list)
    changed: dict[int, Draft] = field(default_factory=dict)
    mine: dict[int, Draft | None] = field(default_factory=dict)


class Conflicts:
    """Resolves the conflicts of one session, or refuses its commits.

    Args:
        catalog: The store's classes.
        states: Which states are in memory.
        names: The session's names.
        loader: Makes objects of records.
        changes: Pickles what was merged.
        restorer: Compares it.
        aside: The records that this transaction has put aside.
        reads: What was read; None where that doesn't count.

    Attributes:
        overtaken: Keys of objects that others have changed too, before this transaction began.
        refused: The error of a commit that was refused; no other one may be tried before a rollback.
    """

    def __init__(
        self,
        catalog: Catalog,
        states: States,
        names: Names,
        loader: Loader,
        changes: Changes,
        *,
        restorer: Restorer,
        aside: Aside,
        reads: Reads | None,
    ) -> None:
        self.overtaken: set[int] = set()
        self.refused: ConflictError | None = None
        self._catalog = catalog
        self._states = states
        self._names = names
        self._loader = loader
        self._changes = changes
        self._restorer = restorer
        self._aside = aside
        self._reads = reads

    def resolve(self, work: Work, reader: Transaction, writer: Transaction, since: int) -> None:
        """Merge what others have written too into what is about to be written.

        Args:
            work: What is about to be written.
            reader: The snapshot.
            writer: The newest state.
            since: The revision of the snapshot.

        Raises:
            ConflictError: That isn't possible, or a serializable transaction has read what isn't so any more.
        """
        newer, newer_names = changes_since(writer, since)
        conflicts, merges, listed = [], [], self._listed()
        for key in sorted({*newer, *self.overtaken}):
            written = key in work.changed or self._aside.get(key) is not None
            if written or self._was_read(key, listed):
                merge = self._merge_of(key) if written else None
                versions = None if merge is None else self._versions(key, work, reader, writer)
                if merge is None or versions is None:
                    conflicts.append(self._conflict(key, writer, read=not written))
                else:
                    merges.append((key, merge, versions))
        conflicts += [
            Conflict(None, None, name, self._names.revision_of(name), newer_names[name], name not in work.names)
            for name in sorted(newer_names)
            if name in work.names or (self._reads is not None and self._depends_on(name, reader, writer))
        ]
        if conflicts:
            raise self._refusal(conflicts)
        for key, merge, versions in merges:
            self._merge(work, writer, key, merge, versions)
        if merges:
            self._take_in_merged(work, writer, newer)

    def _listed(self) -> set[int]:
        """Return the codes of the classes whose instances were listed; one may have come into the store since."""
        classes = () if self._reads is None else self._reads.classes
        return {code for cls in classes for code in self._catalog.codes_of(cls)}

    def _was_read(self, key: int, listed: set[int]) -> bool:
        """Return whether that a record was read counts, and it was; as one of a class that was listed, too."""
        if self._reads is None:
            return False
        if key in self._states.touched or key in self._states.loose or key in self._reads.records:
            return True
        return code_of(key) in listed and bool(serial_of(key))

    def _depends_on(self, name: str, reader: Transaction, writer: Transaction) -> bool:
        """Return whether a name that others have written was read, or whether names were counted and it came or went."""
        assert self._reads is not None  # noqa: S101
        if name in self._reads.names:
            return True
        (then,), (now,) = reader.get_many("names", [name]), writer.get_many("names", [name])
        return self._reads.all_names and (then is None) != (now is None)

    def _merge_of(self, key: int) -> Callable[[Any, Any, Any], object] | None:
        baseline = self._states.baselines.get(key)
        cls = self._catalog.resolve(code_of(key) if baseline is None else baseline.code)
        merge: Callable[[Any, Any, Any], object] | None = getattr(cls, "__merge__", None)
        return merge

    def _versions(
        self, key: int, work: Work, reader: Transaction, writer: Transaction
    ) -> tuple[Baseline, Baseline, Baseline] | None:
        """Return the three records to merge: of the snapshot, of the newest state, of this session; None if one is gone."""
        row = self._aside.get(key)
        put_aside = None if row is None else self._loader.baseline_of(key, row)
        base: Baseline | None
        if put_aside is None:
            base = self._states.baselines[key]
        else:
            base = self._stored(key, reader)
            if base is None or base.revision != put_aside.revision:
                return None  # overtaken before this transaction began, and not kept
        theirs = self._stored(key, writer)
        if theirs is None:
            return None
        if key in work.changed:
            draft = work.changed[key]
            mine = Baseline(draft.flags, draft.code, base.revision, draft.body)
        else:
            assert put_aside is not None  # noqa: S101
            mine = put_aside
        return base, theirs, mine

    def _merge(
        self,
        work: Work,
        writer: Transaction,
        key: int,
        merge: Callable[[Any, Any, Any], object],
        versions: tuple[Baseline, Baseline, Baseline],
    ) -> None:
        base, theirs, mine = (self._loader.copy_of(key, version) for version in versions)
        try:
            merged = merge(base, theirs, mine)
        except ConflictError as error:
            raise self._refusal([self._conflict(key, writer, read=False)], str(error)) from error
        if merged is None:
            merged = mine
        if type(merged) is not type(mine):
            message = (
                f"__merge__ of {type(mine).__qualname__} returned an object of {type(merged).__qualname__}; it returns the"
                " object to store, or changes `mine` and returns None"
            )
            raise TypeError(message)
        work.mine[key] = work.changed.get(key)
        self._changes.encode_instead(key, merged)

    def _take_in_merged(self, work: Work, writer: Transaction, newer: dict[int, int]) -> None:
        """Find the changes once more, merged objects being what they have become.

        A merge may have made objects, have put into its own what stands in other records, which is then promoted, and have
        touched other objects. These must be what the others have left, too.
        """
        work.drafts = self._changes.gather_again(self._states.compared(), self._states.baselines)
        work.idle = self._changes.idle()
        work.changed = self._restorer.changed({key: work.drafts[key] for key in work.drafts.keys() - work.mine.keys()})
        listed = self._listed()
        late = [
            self._conflict(key, writer, read=key not in work.changed)
            for key in sorted({*newer, *self.overtaken} - work.mine.keys())
            if key in work.changed or self._was_read_stale(key, newer, listed)
        ]
        if late:
            raise self._refusal(late)
        work.changed.update({key: self._changes.with_code(key, work.drafts[key]) for key in work.mine})
        work.drafts.update(work.changed)

    def _was_read_stale(self, key: int, newer: dict[int, int], listed: set[int]) -> bool:
        baseline = self._states.baselines.get(key)
        stale = baseline is not None and baseline.revision < newer.get(key, 0)
        return stale and self._was_read(key, listed)

    def _stored(self, key: int, transaction: Transaction) -> Baseline | None:
        (row,) = transaction.get_many("records", [key])
        return None if row is None else self._loader.baseline_of(key, row)

    def _conflict(self, key: int, writer: Transaction, *, read: bool) -> Conflict:
        ours, theirs = self._states.baselines.get(key), self._stored(key, writer)
        return Conflict(
            key,
            self._catalog.label(key).partition("#")[0],
            self._names.known(key),
            self._revision_read(key) if ours is None else ours.revision,
            0 if theirs is None else theirs.revision,
            read,
        )

    def _revision_read(self, key: int) -> int:
        return 0 if self._reads is None else self._reads.records.get(key, 0)

    def _refusal(self, conflicts: list[Conflict], reason: str = "") -> ConflictError:
        shown = [self._shown(conflict) for conflict in conflicts[:10]]
        if conflicts[10:]:
            shown.append(f"{len(conflicts) - 10} more")
        message = (
            f"another session has committed to {', '.join(shown)} since this one began its transaction; roll back and try"
            " again, or let `run` do so"
        )
        if reason:
            message += f" (they couldn't be merged: {reason})"
        self.refused = ConflictError(message, conflicts=tuple(conflicts))
        return self.refused

    def _shown(self, conflict: Conflict) -> str:
        if conflict.key is None:
            what = f"the name {conflict.name!r}"
        else:
            what = self._catalog.label(conflict.key)
            if conflict.name is not None:
                what += f" (db[{conflict.name!r}])"
        read = ", read here" if conflict.read else ""
        return f"{what}{read} (revision {conflict.theirs}, where this one has revision {conflict.ours})"
