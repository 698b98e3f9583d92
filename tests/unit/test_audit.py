"""The dependency audit: what counts as a finding, and what as no answer."""

import pytest

from tools.audit import judge


def package(name: str, *vulnerabilities: dict[str, object]) -> dict[str, object]:
    return {"name": name, "version": "1.0", "vulns": list(vulnerabilities)}


def test_a_finding_names_package_advisory_and_cure() -> None:
    """Whoever reads it in CI must know what to raise to which version."""
    verdict = judge(
        {"dependencies": [package("a"), package("b", {"id": "X-1", "fix_versions": ["1.1"]})]}
    )
    assert verdict.findings == ["b 1.0: X-1; fixed in 1.1"]
    assert str(verdict).endswith("audit: 2 packages, 1 known vulnerabilities")


@pytest.mark.parametrize("num_known", [0, 1])
def test_packages_that_the_index_does_not_know_are_not_clean(num_known: int) -> None:
    """A mirror without advisories once looked like sixty packages without a fault."""
    unknown = {"name": "c", "version": "1.0", "skip_reason": "not found"}
    verdict = judge({"dependencies": [unknown, *[package("a")] * num_known]})
    assert ("could not run" in str(verdict)) == (num_known == 0)
    assert ("1 not known to the index" in str(verdict)) == (num_known == 1)
