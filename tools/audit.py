"""A lock in; its packages with known vulnerabilities out, or a line that nobody could be asked.

pip-audit asks the package index; this reads its answer, because an index that is out of reach, or
that does not know a package, must not look like a clean bill. Ends with 1 if something was found,
else with 0: `make check` must work offline.
"""

import argparse
import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
LONGEST_S = 120


@dataclass(frozen=True)
class Verdict:
    """What a report says. `num_asked` are the packages that the index knew."""

    num_packages: int
    num_asked: int
    findings: list[str]

    def __str__(self) -> str:
        lines = [f"audit: {finding}" for finding in self.findings]
        if not self.num_asked:
            return f"audit: could not run: the index knew none of {self.num_packages} packages"
        unknown = self.num_packages - self.num_asked
        total = f"audit: {self.num_asked} packages, {len(self.findings)} known vulnerabilities"
        return "\n".join([*lines, total + (f"; {unknown} not known to the index" * bool(unknown))])


def judge(report: dict[str, Any]) -> Verdict:
    packages = report["dependencies"]
    asked = [package for package in packages if "skip_reason" not in package]
    findings = [
        f"{package['name']} {package['version']}: {item['id']};"
        f" fixed in {', '.join(item['fix_versions']) or 'no version yet'}"
        for package in asked
        for item in package["vulns"]
    ]
    return Verdict(len(packages), len(asked), findings)


def main() -> int:
    parser = argparse.ArgumentParser(description="Known vulnerabilities of the locked packages.")
    parser.add_argument("--lock", type=Path, default=ROOT / "requirements" / "runtime.txt")
    command = [str(Path(sys.executable).parent / "pip-audit"), "--requirement"]
    command += [str(parser.parse_args().lock), "--disable-pip", "--no-deps", "--format", "json"]
    command += ["--progress-spinner", "off", "--timeout", "5"]
    try:
        answer = subprocess.run(
            command, capture_output=True, text=True, timeout=LONGEST_S, check=False
        )
        verdict = judge(json.loads(answer.stdout))
    except (OSError, subprocess.TimeoutExpired) as error:
        sys.stdout.write(f"audit: could not run: {error}\n")
        return 0
    except json.JSONDecodeError:
        last = (answer.stderr.strip().splitlines() or ["no answer"])[-1]
        sys.stdout.write(f"audit: could not run: {last}\n")
        return 0
    sys.stdout.write(f"{verdict}\n")
    return 1 if verdict.findings else 0


if __name__ == "__main__":
    sys.exit(main())
