"""Known vulnerabilities among what the image holds, by pip-audit: `python -m tests.audit PIP_AUDIT REQUIREMENTS`.

Exits 1 on a finding. Where the database cannot be reached it says so and exits 0: of that nobody here is to blame. Nor
is a package that the database does not know safe: a mirror without vulnerabilities answers so for every one, and
pip-audit then says that it found nothing.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from typing import Any

# What requests and pip-audit say when nobody answers.
_UNREACHED = re.compile(
    r"ConnectionError|ConnectTimeout|ReadTimeout|Max retries exceeded|Failed to resolve|Could not connect to PyPI"
    r"|Failed to connect|ProxyError|SSLError|Tried to connect|503 Server Error|502 Server Error|403 Client Error"
)
NOTHING = "nothing was audited"


def judge_report(report: str, complaint: str) -> tuple[int, str]:
    """Return the exit code and what to say of pip-audit's JSON, or of what it complained of where it wrote none."""
    try:
        rows: list[dict[str, Any]] = json.loads(report)["dependencies"]
    except (ValueError, KeyError):
        if _UNREACHED.search(complaint):
            return 0, f"the database of vulnerabilities cannot be reached: {NOTHING}"
        return 1, f"pip-audit failed: {complaint.strip()[-2_000:]}"
    found = [
        f"{row['name']} {row['version']}: {one['id']}, mended in {', '.join(one['fix_versions']) or 'no version'}"
        for row in rows
        for one in row.get("vulns", ())
    ]
    unknown = [str(row["name"]) for row in rows if "skip_reason" in row]
    if found:
        return 1, "\n".join(["known vulnerabilities:", *found])
    if len(unknown) == len(rows):
        return 0, f"the database of vulnerabilities knows none of {len(rows)} packages (a mirror?): {NOTHING}"
    left_out = f"; not known to the database: {', '.join(unknown)}" if unknown else ""
    return 0, f"no known vulnerability in {len(rows) - len(unknown)} packages{left_out}"


def main() -> int:
    tool, requirements = sys.argv[1:]
    options = ["--require-hashes", "--disable-pip", "--progress-spinner", "off", "--timeout", "5", "--format", "json"]
    done = subprocess.run([tool, *options, "-r", requirements], capture_output=True, text=True, check=False)
    code, said = judge_report(done.stdout, done.stderr)
    sys.stdout.write(f"{said}\n")
    return code


if __name__ == "__main__":
    sys.exit(main())
