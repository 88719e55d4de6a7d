"""The two sources of a foreign system's files: Debian's packages through apt, and PyPI's wheels through pip.

Nothing of this machine's own package state is touched, and no root is needed: apt gets a state folder of its own, in
which nothing is installed, so that it resolves the whole closure of what is asked for.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ...artifact.files import sha256_file
from ...errors import BadInput, EngineMissing

Say = Callable[[str], None]
# What a worker needs beside its wheels: an interpreter, and the C++ library that engines are linked with.
PACKAGES = ("python3", "libstdc++6")

_APT_CONFIG = """\
APT::Architecture "{architecture}";
APT::Architectures {{ "{architecture}"; }};
APT::Install-Recommends "false";
APT::Sandbox::User "";
Acquire::Languages "none";
Acquire::Retries "2";
Dir::State "{folder}/state";
Dir::State::status "{folder}/status";
Dir::Cache "{folder}/cache";
Dir::Log "{folder}/log";
Debug::NoLocking "true";
"""


def unpack_debian(root: Path, scratch: Path, architecture: str, say: Say) -> dict[str, str]:
    """Debian's Python for an architecture, unpacked into `root` by apt's own sources on this machine.

    Returns:
        Package file → sha256.

    Raises:
        EngineMissing: no apt-get or dpkg-deb here.
        BadInput: the packages cannot be had.
    """
    for program in ("apt-get", "dpkg-deb"):
        if shutil.which(program) is None:
            raise EngineMissing(f"no {program} here", "Debian's package tools",
                                "do it on a Debian machine or in a container")  # fmt: skip
    environment = {"APT_CONFIG": str(_apt_config(scratch, architecture))}
    say(f"fetching Debian's list of {architecture} packages")
    _run(["apt-get", "-q", "update"], environment, f"apt cannot read its lists of {architecture} packages")
    say(f"fetching Debian's Python for {architecture}")
    _run(["apt-get", "-q", "-y", "install", "--download-only", *PACKAGES], environment,
         f"apt cannot fetch {', '.join(PACKAGES)} for {architecture}")  # fmt: skip
    archives = sorted((scratch / "cache/archives").glob("*.deb"))
    say(f"unpacking {len(archives)} packages")
    for archive in archives:
        _run(["dpkg-deb", "-x", str(archive), str(root)], {}, f"cannot unpack {archive.name}")
    return {archive.name: sha256_file(archive) for archive in archives}


def _apt_config(folder: Path, architecture: str) -> Path:
    for name in ("state/lists/partial", "cache/archives/partial", "log"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    (folder / "status").write_text("")  # nothing is installed there
    config = folder / "apt.conf"
    config.write_text(_APT_CONFIG.format(architecture=architecture, folder=folder))
    return config


def python_of(root: Path) -> Path:
    """The interpreter in an unpacked system, `usr/bin/python3.X`.

    Raises:
        BadInput: there is none.
    """
    found = sorted(path for path in root.glob("usr/bin/python3.*") if re.fullmatch(r"python3\.\d+", path.name))
    if not found:
        raise BadInput(f"{root}: no Python", "a system unpacked whole", "set it up again")
    return found[-1]


def install_wheels(
    site: Path, wheels: Sequence[str], python: str, platforms: Sequence[str], say: Say
) -> dict[str, str]:
    """Wheels for another architecture, with what they depend on, into a folder.

    Args:
        wheels: requirements such as "onnxruntime==1.32.0".
        python: version such as "3.11".
        platforms: tags that fit, as `platform_tags` lists them.

    Returns:
        "name version" → sha256 of the wheel.

    Raises:
        BadInput: one has no wheel for that architecture and Python, or PyPI cannot be reached.
    """
    say(f"fetching wheels: {', '.join(wheels)}")
    report = site.parent / "pip.json"
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-compile",
               "--only-binary=:all:", "--implementation", "cp", "--python-version", python,
               *(word for tag in platforms for word in ("--platform", tag)), "--target", str(site),
               "--report", str(report), *wheels]  # fmt: skip
    _run(command, {}, f"pip finds no {' '.join(wheels)} for {platforms[0]}, Python {python}")
    installed = json.loads(report.read_text())["install"]
    report.unlink()
    return {f"{item['metadata']['name']} {item['metadata']['version']}": _sha256(item) for item in installed}


def _sha256(item: Mapping[str, Any]) -> str:
    """Of one wheel in pip's report (PyPA's "installation report", version 1)."""
    return str(item["download_info"]["archive_info"]["hashes"]["sha256"])


def platform_tags(glibc: int, machine: str) -> list[str]:
    """Tags of the wheels that run on an architecture with glibc 2.`glibc`, the newest first (PEP 600)."""
    return [f"manylinux_2_{minor}_{machine}" for minor in range(glibc, 16, -1)] + [f"manylinux2014_{machine}"]


def glibc_minor(archives: Iterable[str]) -> int:
    """Minor version of glibc 2.x, by the name of its package's file.

    Raises:
        BadInput: it is not among them.
    """
    found = [match.group(1) for name in archives if (match := re.match(r"libc6_2\.(\d+)", name))]
    if not found:
        raise BadInput("no glibc among Debian's packages", "libc6, on which Python depends", "set it up again")
    return int(found[0])


def _run(command: list[str], environment: dict[str, str], what: str) -> None:
    """Run a program; what it said last explains a failure.

    Raises:
        BadInput: it failed.
    """
    try:
        done = subprocess.run(command, env={**os.environ, **environment}, capture_output=True, text=True,
                              stdin=subprocess.DEVNULL, timeout=1200)  # fmt: skip
    except (OSError, subprocess.SubprocessError) as error:
        raise BadInput(f"{what}: {error}", f"{command[0]} that works") from error
    if done.returncode:
        words = [line for line in (done.stderr + done.stdout).splitlines() if line.strip()]
        errors = [line for line in words if line.startswith(("E:", "ERROR:"))] or words or ["it said nothing"]
        raise BadInput(f"{what}: {errors[-1].strip()[:300]}", "a package registry that answers, and room on the disk",
                       "check network and disk, then do it again; Ubuntu's usual sources have no arm64 packages, "
                       "Debian's have")  # fmt: skip
