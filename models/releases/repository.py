"""The repository of signed releases on the trainer's disk: only it decides which version tiers serve.

::

    <data>/releases/metadata/  1.root.json, 7.targets.json, 9.snapshot.json, timestamp.json
    <data>/releases/targets/   <sha256>                        files, named by their content
    <data>/keys/releases/      <key id>.pem                    private keys

It is a repository of The Update Framework (https://theupdateframework.io, specification 1.0) with consistent
snapshots, by python-tuf: *root* states the valid keys, *targets* the good files (length and SHA-256), *snapshot* the
metadata that belong together, *timestamp* the newest snapshot. Each expires, so that a tier notices if newer ones are
withheld::

    repository = Repository.open(data / "releases", data / "keys" / "releases", clock)
    files = {"manifest.json": b"...", "sums.bin": b"..."}
    repository.release(3, files, Current(version=3, why="9 new species", by="trainer"))
    repository.serve(Current(version=2, why="it fails at night", by="anna"))  # published like a release
    repository.renew()                                                        # from time to time: see RENEW_AT

A change writes files, metadata and last ``timestamp.json``: until then the repository is unchanged for its readers.
Several processes may open one repository: each change locks it and reads it again.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from securesystemslib.signer import Key, Signer
from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import Metadata, MetaFile, Root, Signed, TargetFile

from models.releases import keys as release_keys
from models.releases.repository_files import ONLINE, RepositoryState, Shelf, digest_of
from models.releases.targets import CURRENT, Current, files_of, target, versions_of
from pipeline.clock import Clock
from pipeline.errors import Rejected, Stop
from pipeline.files.release_names import ROLES
from pipeline.settings.settings import Settings

DAY_S: Final = 86_400
LIFE_S: Final[Mapping[str, int]] = {
    "root": 365 * DAY_S,
    "targets": 180 * DAY_S,
    "snapshot": 30 * DAY_S,
    "timestamp": 7 * DAY_S,
}
"""Validity of each role's metadata. A tier that was offline for a week takes no release until it has newer metadata."""

RENEW_AT: Final = 0.5
"""The share of their life after which metadata are signed again, so that a trainer may be off for half of it."""

ROOT_KEYS: Final = 2
ROOT_THRESHOLD: Final = 1
"""Either of two keys can replace all others: one stays with the trainer, the other belongs in a drawer elsewhere."""

KEEP_RELEASES: Final = 20
"""Older releases are deleted; a rollback to them is impossible."""


class Repository:
    """A repository, opened by `open`. All state is on the disk."""

    def __init__(self, folder: Path, keys: Path, clock: Clock) -> None:
        self._shelf = Shelf(folder)
        self._keys = keys
        self._clock = clock

    @classmethod
    def open(
        cls,
        folder: Path,
        keys: Path,
        clock: Clock,
        *,
        root_keys: int = ROOT_KEYS,
        root_threshold: int = ROOT_THRESHOLD,
    ) -> Repository:
        """Open the repository in a folder; make it with new keys if there is none; finish an interrupted change.

        Raises `Stop` if it cannot be read or written, or if a key is missing.
        """
        _check_threshold(root_threshold, root_keys)
        repository = cls(folder, keys, clock)
        with repository._stops():
            repository._shelf.make()
        with repository._changing():
            if not repository._shelf.roots():
                repository._make_root(root_keys, root_threshold)
            repository._finish()
        return repository

    @classmethod
    def of(cls, settings: Settings, clock: Clock) -> Repository:
        """Open the trainer's repository, where the settings put it. Raises as `open`."""
        return cls.open(settings.releases_dir, settings.data_dir / "keys" / "releases", clock)

    # --- reading ------------------------------------------------------------------------------------------------

    @property
    def root(self) -> bytes:
        """The newest root metadata, which an operator gives to the tiers."""
        return self._shelf.read("root", self._shelf.roots()[-1])

    @property
    def current(self) -> Current | None:
        """The release that tiers must serve, or None before the first release."""
        with self._changing():
            info = self._shelf.opened().files.get(CURRENT)
            return None if info is None else Current.of(self._shelf.content(info))

    @property
    def versions(self) -> tuple[int, ...]:
        """The releases that can be served, oldest first."""
        with self._changing():
            return versions_of(self._shelf.opened().files)

    def files(self, version: int) -> Mapping[str, bytes]:
        """Return a release's files by name; empty if there is no such release."""
        with self._changing():
            known = self._shelf.opened().files
            return {name: self._shelf.content(known[path]) for name, path in files_of(version, known).items()}

    def published(self) -> tuple[dict[str, bytes], dict[str, bytes]]:
        """Return all files for the tiers: metadata by file name, the timestamp last, and target files by SHA-256."""
        with self._changing():
            state = self._shelf.opened()
            blobs = {digest_of(info): self._shelf.content(info) for info in state.files.values()}
            return self._shelf.published(state), blobs

    @property
    def mark(self) -> str:
        """A mark that changes with every publication, so that a sender notices news at little cost."""
        with self._changing():
            return self._shelf.mark

    # --- changing ----------------------------------------------------------------------------------------------

    def release(self, version: int, files: Mapping[str, bytes], current: Current) -> None:
        """Sign a new release's files and the version to serve, in one change.

        Raises
        ------
        Rejected
            ``already-released``: this version has other files; ``no-such-release``: `current` names a missing release.
        Stop
            A key is missing, or the disk refuses.
        """
        self._change({target(version, name): data for name, data in files.items()}, current)

    def serve(self, current: Current) -> None:
        """Sign which version to serve: a promotion or a rollback. Raises as `release`."""
        self._change({}, current)

    def renew(self) -> tuple[str, ...]:
        """Sign metadata again that are past `RENEW_AT` of their life; return their roles.

        A root whose keys are stored elsewhere is left unchanged: `root_left_s` is the time that it has left. Raises
        `Stop` if a key is missing or the disk refuses.
        """
        with self._changing():
            state = self._shelf.opened()
            due = [role for role in ROLES if self._is_due(role, state.of(role).signed)]
            if "root" in due and not self._can_sign_root(state.root.signed):
                due.remove("root")
            if "root" in due:
                self._sign_root(state.root.signed, state.root.signed)
                state.root = self._shelf.root()
            if "targets" in due:
                self._sign_targets(state)
            if due:
                self._sign_rest(state)
                self._shelf.tidy(state)
            return tuple(due)

    @property
    def root_left_s(self) -> float:
        """Seconds until the root expires; renewing it takes one of its keys."""
        with self._changing():
            return self._shelf.root().signed.expires.timestamp() - self._clock.now()

    def rotate(self, role: str, *, keys: int | None = None, threshold: int | None = None) -> None:
        """Replace the keys of a role; the signatures of its old keys become invalid.

        Use it after a key was stolen. It also repairs version numbers that a thief raised (fast-forward), since tiers
        forget metadata that an old key signed. A new root is signed by old and new keys. Raises `Stop` for an unknown
        role, if too few of the root's keys are here, or if the disk refuses.
        """
        if role not in ROLES:
            raise Stop(f'no role is called "{role}": it is one of {", ".join(ROLES)}')
        with self._changing():
            before, root = self._shelf.root().signed, self._shelf.root().signed
            old = list(before.roles[role].keyids)
            count = keys or len(old)
            root.roles[role].threshold = threshold or root.roles[role].threshold
            _check_threshold(root.roles[role].threshold, count)
            if not self._can_sign_root(before):
                raise Stop(
                    f"{self._keys}: too few of the root's keys are here to replace keys: bring one back, then try again"
                )
            for _ in range(count):
                root.add_key(release_keys.make_key(self._keys).public_key, role)
            for keyid in old:
                root.revoke_key(keyid, role)
            self._sign_root(root, before)
            self._finish()

    def _change(self, targets: Mapping[str, bytes], current: Current) -> None:
        with self._changing():
            state = self._shelf.opened()
            known = state.files
            for path, data in targets.items():
                if path in known and digest_of(known[path]) != hashlib.sha256(data).hexdigest():
                    raise Rejected(
                        "already-released",
                        f"{path} was released with other content: give the release a new version",
                    )
            if current.version and not files_of(current.version, [*known, *targets]):
                raise Rejected("no-such-release", f"{current.title} cannot serve: it was never released")
            for path, data in {**targets, CURRENT: current.encoded()}.items():
                known[path] = TargetFile.from_data(path, data, ["sha256"])
                self._shelf.put(known[path], data)
            _let_go(known, keep=current.version)
            self._sign_targets(state)
            self._sign_rest(state)
            self._shelf.tidy(state)

    # --- signing -----------------------------------------------------------------------------------------------

    def _make_root(self, count: int, threshold: int) -> None:
        root = Root(consistent_snapshot=True)
        root.version = 0
        for role in ROLES:
            for _ in range(count if role == "root" else 1):
                root.add_key(release_keys.make_key(self._keys).public_key, role)
        root.roles["root"].threshold = threshold
        self._sign_root(root, root)

    def _sign_root(self, root: Root, before: Root) -> None:
        """Write the next root, signed by its own keys and by those that tiers trust now."""
        root.version += 1
        root.expires = self._end_of("root")
        metadata = Metadata(root)
        keys = {key.keyid: key for trusted in (before, root) for key in _keys_of(trusted, "root")}
        for signer in release_keys.signers(self._keys, list(keys.values())):
            metadata.sign(signer, append=True)
        for trusted in (before, root):
            trusted.verify_delegate("root", metadata.signed_bytes, metadata.signatures)
        self._shelf.write("root", metadata)

    def _sign_targets(self, state: RepositoryState) -> None:
        state.targets.signed.version += 1
        self._sign("targets", state)

    def _sign_rest(self, state: RepositoryState) -> None:
        """Sign snapshot and timestamp of the current targets. Writing the timestamp publishes them."""
        snapshot, timestamp = state.snapshot.signed, state.timestamp.signed
        version = state.targets.signed.version
        data = self._shelf.read("targets", version)
        snapshot.meta = {"targets.json": MetaFile.from_data(version, data, ["sha256"])}
        snapshot.version += 1
        data = self._sign("snapshot", state)
        timestamp.snapshot_meta = MetaFile.from_data(snapshot.version, data, ["sha256"])
        timestamp.version += 1
        self._sign("timestamp", state)

    def _sign(self, role: str, state: RepositoryState) -> bytes:
        metadata: Metadata[Any] = state.of(role)
        metadata.signed.expires = self._end_of(role)
        metadata.signatures.clear()
        for signer in self._signers(role, state.root.signed):
            metadata.sign(signer, append=True)
        state.root.signed.verify_delegate(role, metadata.signed_bytes, metadata.signatures)
        return self._shelf.write(role, metadata)

    def _signers(self, role: str, root: Root) -> list[Signer]:
        keys = _keys_of(root, role)
        found = release_keys.signers(self._keys, keys)
        if len(found) < root.roles[role].threshold:
            missing = ", ".join(f"{key.keyid[:12]}….pem" for key in keys)
            raise Stop(
                f"{self._keys}: the key that signs {role} is not here ({missing}): bring it back, or give the role a new one"
            )
        return found

    def _can_sign_root(self, root: Root) -> bool:
        found = release_keys.signers(self._keys, _keys_of(root, "root"))
        return len(found) >= root.roles["root"].threshold

    def _finish(self) -> None:
        """Finish a change that a crash interrupted: sign all metadata that the newest root does not verify."""
        state = self._shelf.state() or RepositoryState.empty(self._shelf.root())
        if not all(map(state.vouches_for, ONLINE)):
            self._sign_targets(state)
            self._sign_rest(state)
            self._shelf.tidy(state)
        release_keys.keep_only(self._keys, state.root.signed.keys)

    def _is_due(self, role: str, signed: Signed) -> bool:
        return signed.expires.timestamp() - self._clock.now() < LIFE_S[role] * (1 - RENEW_AT)

    def _end_of(self, role: str) -> dt.datetime:
        now = dt.datetime.fromtimestamp(self._clock.now(), dt.UTC).replace(microsecond=0)
        return now + dt.timedelta(seconds=LIFE_S[role])

    @contextlib.contextmanager
    def _changing(self) -> Iterator[None]:
        with self._stops(), self._shelf.locked():
            yield

    @contextlib.contextmanager
    def _stops(self) -> Iterator[None]:
        try:
            yield
        except (OSError, RepositoryError) as error:
            raise Stop(f"{self._shelf.folder}: the repository of releases cannot be used: {error}") from error


def _check_threshold(threshold: int, keys: int) -> None:
    if not 1 <= threshold <= keys:
        raise Stop(f"{threshold} of {keys} keys cannot sign: ask for a threshold of 1 to {keys}")


def _keys_of(root: Root, role: str) -> list[Key]:
    return [root.keys[keyid] for keyid in root.roles[role].keyids]


def _let_go(targets: dict[str, TargetFile], keep: int) -> None:
    """Keep the newest releases and the one to serve."""
    for version in versions_of(targets)[:-KEEP_RELEASES]:
        for path in files_of(version, targets).values() if version != keep else ():
            del targets[path]
