"""A sysroot: a folder with another CPU's Python, engines and kernel files, for QEMU's user mode to run in."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import platform
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ... import __name__ as package
from ...artifact.files import replaced_folder
from ...errors import BadInput, EngineMissing
from ...machine import cache_folder, usable_cores, utc_now, versions
from ..workers.place import KERNEL_SWITCHES, Place
from . import packages
from .cpus import EmulatedCpu
from .qemu import find_qemu

# Engines with wheels for aarch64 that the worker can drive without anything else.
ENGINES = ("onnxruntime", "openvino")
_RECIPE = 1  # raised when what a sysroot holds changes
_ABOUT = "sysroot.json"
_START_TIMEOUT_S = 1200.0  # an emulated engine compiles a model a hundred times slower
_NEEDED_BYTES = 700_000_000  # packages, wheels and what they unpack to
# Of this machine's environment, what would choose kernels for another CPU than the emulated one.
_KERNELS = (*KERNEL_SWITCHES, "OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE")
# And what would mislead a Python of another system.
_UNSET = (*_KERNELS, "PYTHONHOME", "VIRTUAL_ENV", "LD_LIBRARY_PATH", "LD_PRELOAD")


@dataclass(frozen=True)
class Sysroot:
    """One that is complete: its folder, and what its record says went in."""

    root: Path
    about: Mapping[str, object]

    @property
    def python(self) -> Path:
        """Its interpreter."""
        return packages.python_of(self.root)

    def version(self, engine: str) -> str | None:
        """Version of an engine's wheel in it, or None if it is not there."""
        wheels: Mapping[str, str] = self.about["wheels"]  # type: ignore[assignment]
        return next((name.split()[1] for name in wheels if name.split()[0] == engine), None)


def _sysroots() -> Path:
    return cache_folder() / "sysroots"


def wheels_wanted(engines: Sequence[str] = ENGINES) -> tuple[str, ...]:
    """The engines in the versions installed here: answers of two versions are not to be compared.

    Raises:
        BadInput: an engine has no wheels for other CPUs.
        EngineMissing: none of them is installed here.
    """
    for engine in engines:
        if engine not in ENGINES:
            raise BadInput(f"engine {engine!r} on an emulated CPU", f"one of {', '.join(ENGINES)}")
    found = [f"{engine}=={version}" for engine, version in versions(engines).items()]
    if not found:
        raise EngineMissing(f"none of {', '.join(engines)} is installed here", "the engine to certify for",
                            f'pip install "tiffin[{engines[0]}]"')  # fmt: skip
    return tuple(found)


def folder_of(cpu: EmulatedCpu, wheels: Sequence[str]) -> Path:
    """Named by the digest of all that decides its content, the day's Debian packages aside: its record has those."""
    digest = hashlib.sha256(json.dumps([_recipe(cpu), sorted(wheels)]).encode()).hexdigest()[:12]
    return _sysroots() / f"{cpu.name}-{digest}"


def _recipe(cpu: EmulatedCpu) -> list[object]:
    return [_RECIPE, cpu.name, cpu.model, dict(cpu.cpuinfo), cpu.midr, list(packages.PACKAGES)]


def find(cpu: EmulatedCpu, engine: str) -> Sysroot | None:
    """A complete sysroot with this machine's version of an engine, the newest first; None if there is none."""
    here = versions((engine,)).get(engine)
    for folder in sorted(_sysroots().glob(f"{cpu.name}-*"), key=lambda path: path.stat().st_mtime, reverse=True):
        found = _complete(folder)
        if here and found and found.about["recipe"] == _recipe(cpu) and found.version(engine) == here:
            return found
    return None


def status(cpu: EmulatedCpu) -> str:
    """In a few words: the engines that are set up, "any engine", "no", or "no QEMU"."""
    try:
        find_qemu(cpu)
    except EngineMissing:
        return "no QEMU"
    if not cpu.debian:
        return "any engine"
    return ", ".join(engine for engine in ENGINES if _installed(engine) and find(cpu, engine)) or "no"


def _installed(engine: str) -> bool:
    return bool(versions((engine,)))


def remove(cpu: EmulatedCpu) -> int:
    """Delete a CPU's sysroots, half-built ones too; how many there were."""
    folders = [path for pattern in (f"{cpu.name}-*", f".{cpu.name}-*") for path in _sysroots().glob(pattern)]
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)
    return len(folders)


def _complete(folder: Path) -> Sysroot | None:
    try:
        about = json.loads((folder / _ABOUT).read_text())
        return Sysroot(folder, about) if {"recipe", "wheels", "debian"} <= about.keys() else None
    except (OSError, ValueError, AttributeError):
        return None


def set_up(cpu: EmulatedCpu, wheels: Sequence[str], say: packages.Say) -> Sysroot:
    """Build a sysroot, or find it built.

    Raises:
        BadInput: packages cannot be had, or there is no room; nothing half-built is left.
        EngineMissing: QEMU or Debian's tools are missing.
    """
    find_qemu(cpu)
    folder = folder_of(cpu, wheels)
    found = _complete(folder)
    if found is None:
        with _draft(folder) as draft, tempfile.TemporaryDirectory(prefix="tiffin-apt-") as scratch:
            debs = packages.unpack_debian(draft, Path(scratch), cpu.debian, say)
            tags = packages.platform_tags(packages.glibc_minor(debs), cpu.machine)
            python = packages.python_of(draft).name.removeprefix("python")
            installed = packages.install_wheels(draft / "site", wheels, python, tags, say)
            write_kernel_files(draft, cpu, usable_cores())
            # What is not in the sysroot is looked up on this machine: its packages must not be found.
            (draft / f"usr/local/lib/python{python}/dist-packages").mkdir(parents=True)
            about = {"cpu": cpu.name, "recipe": _recipe(cpu), "created": utc_now(), "debian": debs, "wheels": installed}
            (draft / _ABOUT).write_text(json.dumps(about, indent=1))
        found = _complete(folder)
    assert found is not None
    return found


@contextlib.contextmanager
def _draft(folder: Path) -> Iterator[Path]:
    """A folder that takes the final one's place when the block ends well; what a killed run left is swept first."""
    for left in folder.parent.glob(f".{folder.name}.*"):
        shutil.rmtree(left, ignore_errors=True)
    fix = "make room, or set $TIFFIN_CACHE to another folder"
    with replaced_folder(folder, fix) as draft:
        if (free := shutil.disk_usage(draft).free) < _NEEDED_BYTES:
            raise BadInput(f"{free / 1e6:,.0f} MB free in {folder.parent}", f"{_NEEDED_BYTES / 1e6:,.0f} MB", fix)
        yield draft


def write_kernel_files(root: Path, cpu: EmulatedCpu, cores: int) -> None:
    """What a kernel on that CPU shows: without it engines read this machine's, and take kernels that CPU lacks."""
    blocks = [{"processor": str(core), **cpu.cpuinfo} for core in range(cores)]
    text = "\n\n".join("\n".join(f"{name}\t: {value}" for name, value in block.items()) for block in blocks)
    files = {"proc/cpuinfo": text + "\n"}
    listed = f"0-{cores - 1}" if cores > 1 else "0"
    files |= {f"sys/devices/system/cpu/{name}": listed for name in ("possible", "present", "online")}
    files |= {f"sys/devices/system/cpu/cpu{core}/regs/identification/midr_el1": cpu.midr for core in range(cores)}
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content + "\n")


def emulated(cpu: EmulatedCpu, engine: str) -> Place:
    """The place in which a worker runs on an emulated CPU.

    Raises:
        EngineMissing: QEMU, the engine's wheel or the sysroot is missing.
    """
    program, version = find_qemu(cpu)
    name, model = f"emulated {cpu.name}", (program, "-cpu", cpu.model)
    if not cpu.debian and platform.machine() != cpu.machine:
        raise EngineMissing(f"{cpu.name} is emulated with this machine's own Python", f"a machine of {cpu.machine}")
    if not cpu.debian:
        return Place(name, model, dict.fromkeys(_KERNELS), start_timeout_s=_START_TIMEOUT_S, identity=version)
    if engine not in ENGINES:
        raise EngineMissing(f"no wheel of {engine} for {cpu.name}", f"one of {', '.join(ENGINES)}")
    sysroot = find(cpu, engine)
    if sysroot is None:
        raise EngineMissing(f"no sysroot of {cpu.name} with {engine} {versions((engine,)).get(engine)}", "one set up",
                            f"set it up: `tiffin emulate setup {cpu.name}`")  # fmt: skip
    return place_in(cpu, sysroot)


def place_in(cpu: EmulatedCpu, sysroot: Sysroot) -> Place:
    """The place in one sysroot of that CPU.

    Raises:
        EngineMissing: QEMU is missing, or the sysroot cannot be written to.
    """
    program, version = find_qemu(cpu)
    environment = {**dict.fromkeys(_UNSET), "PYTHONDONTWRITEBYTECODE": "1", "PYTHONNOUSERSITE": "1",
                   "PYTHONPATH": f"{sysroot.root / 'site'}{os.pathsep}{_code(sysroot)}"}  # fmt: skip
    prefix = (program, "-cpu", cpu.model, "-L", str(sysroot.root))
    content = hashlib.sha256(json.dumps(sysroot.about, sort_keys=True).encode()).hexdigest()[:16]
    return Place(f"emulated {cpu.name}", prefix, environment, str(sysroot.python), start_timeout_s=_START_TIMEOUT_S,
                 identity=f"{version} {content}")  # fmt: skip


def _code(sysroot: Sysroot) -> Path:
    """A folder in the sysroot through which its Python finds this package, and no other package of this machine."""
    here = Path(__file__).parents[2]
    folder = sysroot.root / "code" / hashlib.sha256(str(here).encode()).hexdigest()[:12]
    link = folder / package.split(".")[0]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileExistsError):
            link.symlink_to(here)
    except OSError as error:
        raise EngineMissing(f"cannot write {folder} ({error.strerror})", "a sysroot of one's own",
                            "set $TIFFIN_CACHE to a writable folder and set it up there") from error  # fmt: skip
    return folder
