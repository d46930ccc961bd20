"""What is installed: locks that fit what is declared, and no version with a published fault."""

from __future__ import annotations

import datetime
import re
import sys
import tomllib
from collections.abc import Iterator
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from tests.conftest import ROOT

sys.path.insert(0, str(ROOT / "tools"))
import setup_venv

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
ADVISORIES: list[dict[str, Any]] = tomllib.loads(
    (ROOT / "locks" / "advisories.toml").read_text(encoding="utf-8")
)["advisory"]
LOCKS = sorted((ROOT / "locks").glob("*.txt"))


def declared() -> Iterator[Requirement]:
    """Every requirement of pyproject.toml: base, extras, groups."""
    project, groups = PROJECT["project"], PROJECT["dependency-groups"]
    for listing in (
        project["dependencies"],
        *project["optional-dependencies"].values(),
        *groups.values(),
    ):
        yield from map(Requirement, listing)


def locked(text: str) -> list[Requirement]:
    return [Requirement(line.rstrip(" \\")) for line in text.splitlines() if re.match(r"\w", line)]


def pin(requirement: Requirement) -> Version:
    (specifier,) = requirement.specifier
    assert specifier.operator == "=="
    return Version(specifier.version)


def admits_older(requirement: Requirement, fixed: str) -> bool:
    """Whether it leaves room for a version before `fixed`: it has no floor, or a lower one."""
    floors = [
        Version(specifier.version.removesuffix(".*"))
        for specifier in requirement.specifier
        if specifier.operator in (">=", "==", "~=", ">")
    ]
    return not floors or max(floors) < Version(fixed)


@pytest.mark.parametrize("advisory", ADVISORIES, ids=lambda a: f"{a['package']}-{a['id'][:14]}")
def test_no_version_with_a_published_fault_is_let_in(advisory: dict[str, Any]) -> None:
    assert set(advisory) == {"package", "fixed", "id", "source", "read", "fault"}
    assert advisory["source"].startswith("https://")
    assert isinstance(advisory["read"], datetime.date)
    assert re.match(r"(CVE-\d{4}-\d+|GHSA-\w{4}-\w{4}-\w{4})", advisory["id"])
    name = canonicalize_name(advisory["package"])
    for requirement in declared():
        if canonicalize_name(requirement.name) == name:
            assert not admits_older(requirement, advisory["fixed"]), str(requirement)
    for path in LOCKS:
        for requirement in locked(path.read_text(encoding="utf-8")):
            if canonicalize_name(requirement.name) == name:
                assert pin(requirement) >= Version(advisory["fixed"]), (path.name, str(requirement))


def test_the_check_of_floors_can_fail() -> None:
    for low in ("torch>=2.6", "torch", "torch<3", "torch==2.9.1", "torch!=2.9"):
        assert admits_older(Requirement(low), "2.10.0"), low
    for high in ("torch>=2.10", "torch==2.13.0", "torch>=2.9,>=2.10.1", "torch~=2.10"):
        assert not admits_older(Requirement(high), "2.10.0"), high


@pytest.mark.parametrize("name", setup_venv.ENVIRONMENTS)
def test_a_lock_holds_what_its_environment_declares(name: str) -> None:
    """Or somebody changed pyproject.toml and forgot `make lock`."""
    extras, groups = (words.split(",") for words in setup_venv.ENVIRONMENTS[name])
    project = PROJECT["project"]
    asked = [*project["dependencies"]]
    for extra in extras:
        asked += project["optional-dependencies"][extra]
    for group in groups:
        asked += PROJECT["dependency-groups"][group]
    lock = (ROOT / "locks" / f"{name}.txt").read_text(encoding="utf-8")
    torch = (ROOT / "locks" / "torch.txt").read_text(encoding="utf-8")
    pins: dict[str, list[Version]] = {}
    for requirement in [*locked(lock), *locked(torch)]:
        pins.setdefault(canonicalize_name(requirement.name), []).append(pin(requirement))
    for text in asked:
        requirement = Requirement(text)
        if requirement.name == "auricle":
            continue
        found = pins[canonicalize_name(requirement.name)]
        assert all(requirement.specifier.contains(version) for version in found), text


@pytest.mark.parametrize("path", LOCKS, ids=lambda path: path.stem)
def test_every_locked_version_has_hashes_and_no_host(path: Any) -> None:
    text = path.read_text(encoding="utf-8")
    blocks = re.split(r"^(?=\w)", text, flags=re.MULTILINE)[1:]
    assert blocks
    for block in blocks:
        assert re.search(r"--hash=sha256:[0-9a-f]{64}", block), block.split()[0]
    assert "://" not in text
    assert not re.search(r"^nvidia-", text, re.MULTILINE)


def test_an_environment_of_the_tests_is_one_of_the_demo_too() -> None:
    small, large = ((ROOT / "locks" / f"{name}.txt").read_text() for name in ("demo", "dev"))
    assert set(map(str, locked(small))) <= set(map(str, locked(large)))
