"""Prepare an InfluxDB 2 through its HTTP API (v2): a bucket with its retention, and a token for each user of it.

A token allows one action on one bucket: roles write, Grafana reads. InfluxDB shows a token only once, when it is made
(since 2.9 it stores a hash), so a lost token is replaced by a new one and the old one is deleted::

    influx = Influx("http://influxdb:8086", admin_token, org="tierwise")
    bucket = influx.bucket("tierwise", keep_days=365)
    token = influx.renew_token("grafana", "read", bucket)
"""

from __future__ import annotations

import json
import urllib.error
import urllib.parse
import urllib.request
from typing import Any, Final, Literal

from pipeline.errors import Retry, Stop

TIMEOUT_S: Final = 10.0
DAY_S: Final = 86_400
LONGEST_SHARD_S: Final = 7 * DAY_S
"""InfluxDB's shards of a bucket that keeps points for long. It refuses a retention shorter than a shard."""
NOT_ALLOWED: Final = frozenset({401, 403, 404})


class Refused(Stop):
    """The server refused a call with this HTTP status."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


class Influx:
    """A client that connects for each call.

    All methods raise `Retry` if the server does not answer, and `Stop` if it refuses.
    """

    def __init__(self, url: str, token: str, org: str) -> None:
        self._url = url.rstrip("/")
        self._token = token
        self._org = org

    def bucket(self, name: str, keep_days: int) -> str:
        """Return the id of the bucket with this name. Make it if it is missing; set its retention in any case."""
        rule = {"type": "expire", "everySeconds": keep_days * DAY_S}
        rules = [rule]
        found = self._call("GET", "/api/v2/buckets", {"name": name, "org": self._org}, absent={"buckets": []})
        if keep_days * DAY_S < LONGEST_SHARD_S:
            rule["shardGroupDurationSeconds"] = _shard_s(keep_days)
        if found["buckets"]:
            made = found["buckets"][0]
            for kept in made.get("retentionRules", ()):
                if 0 < kept.get("shardGroupDurationSeconds", 0) < _shard_s(keep_days):  # of a shorter retention
                    rule["shardGroupDurationSeconds"] = _shard_s(keep_days)
            self._call("PATCH", f"/api/v2/buckets/{made['id']}", body={"retentionRules": rules})
        else:
            body = {"orgID": self._org_id(), "name": name, "retentionRules": rules}
            made = self._call("POST", "/api/v2/buckets", body=body)
        return str(made["id"])

    def renew_token(self, name: str, action: Literal["read", "write"], bucket: str) -> str:
        """Make a token that allows this action on this bucket, and delete the bucket's earlier one of this name."""
        org = self._org_id()
        for old in self._call("GET", "/api/v2/authorizations", {"orgID": org})["authorizations"]:
            buckets = {permission["resource"].get("id") for permission in old.get("permissions", ())}
            if old.get("description") == name and bucket in buckets:  # another site's bucket has a token of this name
                self._call("DELETE", f"/api/v2/authorizations/{old['id']}")
        permission = {"action": action, "resource": {"type": "buckets", "id": bucket, "orgID": org}}
        body = {"orgID": org, "description": name, "permissions": [permission]}
        return str(self._call("POST", "/api/v2/authorizations", body=body)["token"])

    def accepts(self, token: str, action: Literal["read", "write"], bucket: str) -> bool:
        """Return whether the server allows a token this action on this bucket. Write nothing."""
        user = Influx(self._url, token, self._org)
        try:
            if action == "read":
                user._call("GET", f"/api/v2/buckets/{bucket}")
            else:
                user._call("POST", "/api/v2/write", {"org": self._org, "bucket": bucket})
        except Refused as error:
            return error.status not in NOT_ALLOWED
        return True

    def _org_id(self) -> str:
        found = self._call("GET", "/api/v2/orgs", {"org": self._org})["orgs"]
        if not found:
            raise Stop(f"InfluxDB at {self._url} has no organisation {self._org}")
        return str(found[0]["id"])

    def _call(
        self,
        method: str,
        path: str,
        query: dict[str, str] | None = None,
        *,
        body: dict[str, Any] | None = None,
        absent: dict[str, Any] | None = None,
    ) -> Any:
        """Make one call and return its JSON. A 404 returns `absent`, if given."""
        request = urllib.request.Request(  # noqa: S310  # the operator's own address
            f"{self._url}{path}{'?' + urllib.parse.urlencode(query) if query else ''}",
            method=method,
            data=json.dumps(body).encode() if body is not None else None,
            headers={"Authorization": f"Token {self._token}", "Content-Type": "application/json"},
        )
        try:
            with urllib.request.urlopen(request, timeout=TIMEOUT_S) as answer:  # noqa: S310
                return json.loads(answer.read() or b"{}")
        except urllib.error.HTTPError as error:
            with error:
                if error.code == 404 and absent is not None:
                    return absent
                problem = f"InfluxDB at {self._url}: {error.code} to {method} {path}: {error.read(300).decode(errors='replace')}"
            if error.code >= 500 or error.code == 429:
                raise Retry(problem) from None
            if error.code in NOT_ALLOWED:
                problem += ". Check the admin token: a data volume older than the secrets has another token"
            raise Refused(problem, error.code) from None
        except (OSError, ValueError) as error:
            raise Retry(f"InfluxDB at {self._url}: {error}") from None


def _shard_s(keep_days: int) -> int:
    """Return the duration of a shard, as InfluxDB chooses it for a new bucket."""
    if keep_days <= 2:
        return 3_600
    return DAY_S if keep_days <= 183 else LONGEST_SHARD_S
