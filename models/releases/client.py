"""The signed metadata that a tier trusts, verified against its root.

::

    received metadata (from any sender) --> Trust.refresh --> trusted metadata on the disk --> Trust.targets
                                             |
    root.json, brought by the operator ------+

The rules are The Update Framework's, by python-tuf's own client: signatures and thresholds, no older version than seen
before (rollback), nothing expired (freeze), only metadata that belong together (mix and match), no longer than stated
(endless data). A refusal changes nothing: the metadata trusted before stay trusted, and the serving release goes on
serving::

    trust = Trust(data / "edge" / "releases", root=data / "releases-root.json", received=inbox.get, clock=clock)
    trust.refresh()                        # Rejected("bad-signature", ...), Retry("3.snapshot.json has not come yet")
    trust.targets["lite0/current.json"]    # File(digest="9f86…", length=88)
"""

from __future__ import annotations

import contextlib
import datetime as dt
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final, NoReturn

from tuf.api import exceptions as tuf_errors
from tuf.api.metadata import Metadata, Targets
from tuf.api.serialization import DeserializationError
from tuf.ngclient import FetcherInterface, Updater, UpdaterConfig

from pipeline.clock import Clock
from pipeline.errors import Rejected, Retry
from pipeline.files import private_files
from pipeline.files.blobs import File
from pipeline.files.release_names import METADATA_MAX_BYTES

NOWHERE: Final = "received:"
"""A placeholder for the address that the library requires; nothing is ever fetched."""

CONFIG: Final = UpdaterConfig(
    root_max_length=METADATA_MAX_BYTES["root"],
    timestamp_max_length=METADATA_MAX_BYTES["timestamp"],
    snapshot_max_length=METADATA_MAX_BYTES["snapshot"],
    targets_max_length=METADATA_MAX_BYTES["targets"],
)

Received = Callable[[str], bytes | None]
"""Returns the bytes received for a file name, from any sender, or None."""


class Trust:
    """The trusted metadata of one tier. Not thread-safe: one thread drives a tier's updates."""

    def __init__(self, folder: Path, root: Path | Callable[[], Path], received: Received, clock: Clock) -> None:
        """Take the path where the operator puts the root, or a function that returns it; the file may come later."""
        self._folder = folder / "trusted"
        self._root_at = root if callable(root) else lambda: root
        self._received = received
        self._clock = clock

    def refresh(self) -> None:
        """Verify the received metadata and trust them; without newer ones, the trusted ones stay until they expire.

        Raises
        ------
        Retry
            Some metadata have not arrived yet, or the disk refuses.
        Rejected
            The metadata are not trustworthy: ``bad-signature``, ``rollback``, ``mix-and-match``, ``expired-metadata``,
            ``too-long``, ``malformed-metadata``; or there is no trusted root: ``no-root``, ``bad-root``.
        """
        root = self._trusted_root()
        with self._named():
            private_files.make_folder(self._folder)
            updater = self._updater(root)
            # The library has no other way to be given the time.
            updater._trusted_set.reference_time = self._now()
            updater.refresh()

    @property
    def targets(self) -> Mapping[str, File]:
        """The good files by path, as last trusted, even after expiry; empty before anything was trusted."""
        try:
            signed = Metadata[Targets].from_bytes((self._folder / "targets.json").read_bytes()).signed
        except FileNotFoundError:
            return {}
        except (OSError, DeserializationError) as error:
            raise Retry(
                f"{self._folder}: the trusted metadata cannot be read ({error}); they are requested again"
            ) from None
        return {
            path: File(info.hashes["sha256"], info.length)
            for path, info in signed.targets.items()
            if "sha256" in info.hashes
        }

    def _updater(self, root: bytes) -> Updater:
        fetcher = _Fetcher(self._here)
        try:
            return Updater(str(self._folder), NOWHERE, fetcher=fetcher, config=CONFIG, bootstrap=root)
        except tuf_errors.RepositoryError as error:
            raise Rejected(
                "bad-root",
                f"{self._root} is not our root metadata ({error}): copy it from the cloud's machine again; updates are "
                "off until then, serving goes on",
            ) from None

    def _now(self) -> dt.datetime:
        return dt.datetime.fromtimestamp(self._clock.now(), dt.UTC)

    @property
    def _root(self) -> Path:
        return self._root_at()

    def _trusted_root(self) -> bytes:
        try:
            return self._root.read_bytes()
        except OSError as error:
            raise Rejected(
                "no-root",
                f"no trusted root at {self._root} ({error.strerror}): copy it from the cloud's machine, where "
                "`tierwise releases root` prints it; updates are off until then, serving goes on",
            ) from None

    def _here(self, name: str) -> bytes | None:
        """Return received metadata, or the trusted timestamp if none was received, so that the rest can be checked."""
        data = self._received(name)
        return self._trusted(name) if data is None and name == "timestamp.json" else data

    # --- reasons for a refusal ----------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _named(self) -> Iterator[None]:
        try:
            yield
        except tuf_errors.DownloadHTTPError as error:
            for role in ("timestamp", "snapshot", "targets"):
                if self._is_expired(role):
                    self._name_expired(f"{role}.json is expired")
            raise Retry(f"{error}: it is still under way, or its sender is offline") from None
        except tuf_errors.DownloadLengthMismatchError as error:
            raise Rejected("too-long", f"signed metadata: {error}{STANDS}") from None
        except tuf_errors.UnsignedMetadataError as error:
            raise Rejected(
                "bad-signature", f"{error}: not signed by the keys that {self._root} names{STANDS}"
            ) from None
        except tuf_errors.ExpiredMetadataError as error:
            self._name_expired(str(error))
        except tuf_errors.LengthOrHashMismatchError as error:
            raise Rejected("mix-and-match", f"metadata that do not belong together: {error}{STANDS}") from None
        except tuf_errors.BadVersionNumberError as error:
            self._name_version(error)
        except DeserializationError as error:
            raise Rejected("malformed-metadata", f"the received file is no signed metadata: {error}{STANDS}") from None
        except tuf_errors.RepositoryError as error:
            raise Rejected("bad-metadata", f"{error}{STANDS}") from None
        except (tuf_errors.DownloadError, OSError) as error:
            raise Retry(f"the metadata of releases cannot be read: {error}") from None

    def _name_expired(self, what: str) -> NoReturn:
        raise Rejected(
            "expired-metadata",
            f"{what}, and nothing newer arrived: check whether the trainer runs and can reach this tier{STANDS}",
        ) from None

    def _is_expired(self, role: str) -> bool:
        """Return whether the trusted metadata of a role are expired; False if there are none."""
        data = self._trusted(f"{role}.json")
        with contextlib.suppress(DeserializationError):
            return data is not None and Metadata[Any].from_bytes(data).signed.is_expired(self._now())
        return False

    def _name_version(self, error: Exception) -> NoReturn:
        """Raise the refusal for an older version, or for another set, by the versions that the received files state."""
        old, new = self._versions(self._trusted), self._versions(self._received)
        if any(new[role] < version for role, version in old.items() if role in new):
            raise Rejected("rollback", f"older metadata than this tier has seen: {error}{STANDS}") from None
        raise Rejected("mix-and-match", f"metadata that do not belong together: {error}{STANDS}") from None

    def _trusted(self, name: str) -> bytes | None:
        """Return a trusted file, ignoring the version in its name."""
        try:
            return (self._folder / name.lstrip("0123456789.")).read_bytes()
        except OSError:
            return None

    @staticmethod
    def _versions(read: Received) -> dict[str, int]:
        """Read the stated versions of timestamp, snapshot and targets."""
        found: dict[str, int] = {}
        with contextlib.suppress(ValueError, KeyError, TypeError):
            timestamp = _signed(read("timestamp.json"))
            found["timestamp"] = int(timestamp["version"])
            found["snapshot"] = int(timestamp["meta"]["snapshot.json"]["version"])
            snapshot = _signed(read(f"{found['snapshot']}.snapshot.json"))
            found["targets"] = int(snapshot["meta"]["targets.json"]["version"])
        return found


STANDS: Final = "; refused, the metadata trusted before stay in force"


class _Fetcher(FetcherInterface):
    """Gives received files to the library by name."""

    def __init__(self, here: Received) -> None:
        self._here = here

    def _fetch(self, url: str) -> Iterator[bytes]:
        name = url.removeprefix(NOWHERE).lstrip("/")
        data = self._here(name)
        if data is None:
            raise tuf_errors.DownloadHTTPError(f"{name} has not come yet", 404)
        return iter([data])


def _signed(data: bytes | None) -> dict[str, Any]:
    signed: dict[str, Any] = json.loads(data or b"null")["signed"]
    return signed
