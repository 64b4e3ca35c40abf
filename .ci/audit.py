"""Ask whether a locked dependency has a known vulnerability: `audit.py PIP_AUDIT LOCK`.

Exit code 0: no known vulnerability, or nobody could be asked, which it prints. Exit code 1: there is one.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

TIMEOUT_S = 180


def audit(pip_audit: str, requirements: str) -> list[dict[str, Any]] | None:
    """Return what pip-audit found of each package; None where the service does not answer."""
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
        file.write(requirements)
        file.flush()
        command = [pip_audit, "--disable-pip", "--require-hashes", "-r", file.name, "-f", "json"]
        try:
            done = subprocess.run(
                [*command, "--progress-spinner", "off", "--timeout", "10"],
                check=False,  # 1 where it found something
                capture_output=True,
                text=True,
                timeout=TIMEOUT_S,
            )
            return list(json.loads(done.stdout)["dependencies"])
        except (subprocess.TimeoutExpired, ValueError):
            return None


def main(pip_audit: str, lock: str) -> int:
    """Audit the packages of a lock file; return the exit code."""
    requirements = re.split(r"\n(?=\S)", Path(lock).read_text("utf-8").strip())
    # First about one package: where nobody answers, do not ask about all of them.
    first = audit(pip_audit, requirements[0])
    found = audit(pip_audit, "\n".join(requirements)) if first and "vulns" in first[0] else None
    if found is None:
        print("audit: the vulnerability service could not be asked, so no dependency was checked")
        return 0
    asked = [package for package in found if "vulns" in package]
    print(f"audit: {len(asked)} of {len(found)} packages checked against the Python advisory database")
    vulnerable = [package for package in asked if package["vulns"]]
    for package in vulnerable:
        for each in package["vulns"]:
            fixed = ", ".join(each["fix_versions"]) or "no release yet"
            print(f"  {package['name']} {package['version']}: {each['id']}, fixed in {fixed}")
    return 1 if vulnerable else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
