"""An InfluxDB 2 made ready by its own API (v2): the bucket with its retention, and a token for each who uses it.

Each token may do one thing with one bucket: roles write, Grafana reads. InfluxDB shows a token once, when it is made
(since 2.9 it keeps only its hash), so a token whose file was lost is made anew and the old one ends::

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


class Influx:
    """Connects at each call. All methods raise `Retry` where nobody answers, `Stop` where InfluxDB refuses."""

    def __init__(self, url: str, token: str, org: str) -> None:
        self._url = url.rstrip("/")
        self._token = token
        self._org = org

    def bucket(self, name: str, keep_days: int) -> str:
        """The id of the bucket of this name, made if there is none; its retention is set in any case."""
        rules = [{"type": "expire", "everySeconds": keep_days * DAY_S}]
        found = self._ask("GET", "/api/v2/buckets", {"name": name, "org": self._org}, absent={"buckets": []})
        if found["buckets"]:
            made = found["buckets"][0]
            self._ask("PATCH", f"/api/v2/buckets/{made['id']}", body={"retentionRules": rules})
        else:
            body = {"orgID": self._org_id(), "name": name, "retentionRules": rules}
            made = self._ask("POST", "/api/v2/buckets", body=body)
        return str(made["id"])

    def renew_token(self, name: str, action: Literal["read", "write"], bucket: str) -> str:
        """A new token that may do this with this bucket; the one of this name before ends."""
        org = self._org_id()
        for old in self._ask("GET", "/api/v2/authorizations", {"orgID": org})["authorizations"]:
            if old.get("description") == name:
                self._ask("DELETE", f"/api/v2/authorizations/{old['id']}")
        permission = {"action": action, "resource": {"type": "buckets", "id": bucket, "orgID": org}}
        body = {"orgID": org, "description": name, "permissions": [permission]}
        return str(self._ask("POST", "/api/v2/authorizations", body=body)["token"])

    def _org_id(self) -> str:
        found = self._ask("GET", "/api/v2/orgs", {"org": self._org})["orgs"]
        if not found:
            raise Stop(f"InfluxDB at {self._url} has no organisation {self._org}")
        return str(found[0]["id"])

    def _ask(
        self,
        method: str,
        path: str,
        query: dict[str, str] | None = None,
        *,
        body: dict[str, Any] | None = None,
        absent: dict[str, Any] | None = None,
    ) -> Any:
        """One call; `absent` is what a 404 means."""
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
                said = f"InfluxDB at {self._url}: {error.code} to {method} {path}: {error.read(300).decode(errors='replace')}"
            if error.code >= 500 or error.code == 429:
                raise Retry(said) from None
            raise Stop(
                f"{said}. Check its admin token: a data volume that is older than the secrets has another"
            ) from None
        except (OSError, ValueError) as error:
            raise Retry(f"InfluxDB at {self._url}: {error}") from None
