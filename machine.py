"""What machine is this: CPU, GPU, cores, cgroup limits, load, versions, commit. Standard library only.

Nothing here names one machine among its like: no host name, no serial number, no path.
"""

from __future__ import annotations

import datetime
import os
import platform
import signal
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

# Names as /proc/cpuinfo prints them (x86 `flags`, aarch64 `Features`), with the word that a user knows.
INT8_FEATURES = {
    "avx512_vnni": "AVX512-VNNI",
    "avx_vnni": "AVX-VNNI",
    "amx_int8": "AMX-INT8",
    "asimddp": "dot product",
    "i8mm": "I8MM",
}
VNNI_FEATURES = frozenset({"avx512_vnni", "avx_vnni", "amx_int8"})
HALF_FEATURES = {
    "avx512_bf16": "AVX512-BF16",
    "amx_bf16": "AMX-BF16",
    "avx512_fp16": "AVX512-FP16",
    "bf16": "BF16",
    "fphp": "FP16",
}
VECTOR_FEATURES = {"avx2": "AVX2", "avx512f": "AVX-512", "asimd": "NEON", "sve": "SVE"}

ENGINE_PACKAGES = (
    "tiffin",
    "onnxruntime",
    "openvino",
    "tensorrt",
    "tensorrt-rtx-cu13-bindings",
    "torch",
    "onnx",
    "nncf",
    "numpy",
    "pillow",
)


def _cpuinfo() -> dict[str, str]:
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return {}
    first = text.split("\n\n", 1)[0]
    pairs = (line.split(":", 1) for line in first.splitlines() if ":" in line)
    return {key.strip(): value.strip() for key, value in pairs}


def cpu_model() -> str:
    """CPU's model name as the kernel gives it, or the platform's word."""
    return _cpuinfo().get("model name") or platform.processor() or platform.machine()


def cpu_flags() -> frozenset[str]:
    """All features of this CPU, in the kernel's words; empty where the system does not tell."""
    info = _cpuinfo()
    return frozenset((info.get("flags") or info.get("Features") or "").split())


def cpu_features() -> tuple[str, ...]:
    """Features that decide which precision is worth using, in the kernel's words, sorted."""
    return tuple(sorted(cpu_flags() & {*INT8_FEATURES, *HALF_FEATURES, *VECTOR_FEATURES}))


def feature_words(features: Iterable[str]) -> list[str]:
    """The same features in words that a user knows."""
    known = {**VECTOR_FEATURES, **INT8_FEATURES, **HALF_FEATURES}
    return [word for name, word in known.items() if name in set(features)]


def has_vnni() -> bool:
    """True if this CPU multiplies u8 by s8 into int32 without saturating (AVX512-VNNI, AVX-VNNI or AMX-INT8)."""
    return bool(VNNI_FEATURES & set(cpu_features()))


def cache_folder() -> Path:
    """Where downloads, unpacked boxes and sysroots are kept: `$TIFFIN_CACHE`, else `tiffin` in the user's cache."""
    named = os.environ.get("TIFFIN_CACHE")
    return Path(named) if named else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tiffin"


def usable_cores() -> int:
    """Cores that this process may run on: its affinity mask, bounded by the cgroup's CPU quota."""
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = _cgroup_cpu_quota()
    return max(1, min(affinity, int(quota) if quota else affinity))


def cgroup_folders(root: Path = Path("/")) -> list[Path]:
    """Of cgroup v2: the root that this process sees, then each below it, down to its own. A limit of any holds.

    Args:
        root: where `proc` and `sys` lie.
    """
    told = (_read(root / "proc/self/cgroup") or "").splitlines()
    own = next((line[3:] for line in told if line.startswith("0::")), "")
    folders = [root / "sys/fs/cgroup"]
    for part in own.split("/"):
        if part and part != "..":
            folders.append(folders[-1] / part)
    return folders


def _cgroup(name: str) -> list[str]:
    """What a file says in each of them that has it."""
    return [told for folder in cgroup_folders() if (told := _read(folder / name)) is not None]


def _cgroup_cpu_quota() -> float | None:
    """CPUs' worth of time granted by cgroup v2 `cpu.max`, the least of all; None if unlimited or not told."""
    granted = [told.split() for told in _cgroup("cpu.max")]
    return min((int(each[0]) / int(each[1]) for each in granted if _is_quota(each)), default=None)


def cgroup_memory_bytes() -> int | None:
    """Memory granted by cgroup v2 `memory.max`, bytes, the least of all; None if unlimited or not told."""
    return min((int(each) for each in _cgroup("memory.max") if each.isdigit()), default=None)


def _is_quota(words: list[str]) -> bool:
    return len(words) == 2 and all(word.isdigit() for word in words)


def memory_bytes() -> int | None:
    """Physical memory in bytes, or None where the system does not tell."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError, AttributeError):
        return None


def die_with_parent(parent: int | None = None) -> None:
    """This process is killed when its parent is: one that is stopped cannot see it (Linux, prctl PR_SET_PDEATHSIG).

    Args:
        parent: its pid; where another is the parent by now, it is gone already, and this process ends. Who reads from
            its parent needs none: what it reads has ended.
    """
    import ctypes

    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL, 0, 0, 0)
    if parent not in (None, os.getppid()):
        sys.exit()


def _read(path: str | Path) -> str | None:
    try:
        return Path(path).read_text(errors="replace").strip("\0\n ")
    except OSError:
        return None


def board() -> str | None:
    """Model of the board or of the (virtual) computer: tells ARM devices apart, whose CPUs have no name in Linux."""
    return _read("/proc/device-tree/model") or _read("/sys/class/dmi/id/product_name") or None


def threads_per_core() -> int | None:
    """Hardware threads that share the first core, or None where the system does not tell."""
    siblings = _read("/sys/devices/system/cpu/cpu0/topology/thread_siblings_list") or ""
    try:
        spans = [[int(end) for end in span.split("-")] for span in siblings.split(",")]
    except ValueError:
        return None
    return sum(span[-1] - span[0] + 1 for span in spans)


def has_hypervisor() -> bool | None:
    """True in a virtual machine that says so (x86); None on other CPUs."""
    flags = _cpuinfo().get("flags")
    return None if flags is None else "hypervisor" in flags.split()


def gpus() -> tuple[str | None, str | None]:
    """NVIDIA GPUs' names joined by commas, and the driver's version; None where nothing tells.

    The kernel module is asked first: it answers at once, while NVML may take seconds to wake a sleeping GPU.
    """
    about = [_read(path) or "" for path in sorted(Path("/proc/driver/nvidia/gpus").glob("*/information"))]
    names = [line.partition(":")[2].strip() for text in about for line in text.splitlines() if "Model:" in line]
    if not names:
        return _nvml()
    return ", ".join(names), _read("/sys/module/nvidia/version")


def _nvml() -> tuple[str | None, str | None]:
    try:
        import pynvml

        pynvml.nvmlInit()
    except Exception:  # not installed, no driver, or an NVML of another version: nothing told
        return None, None
    try:
        found = [
            pynvml.nvmlDeviceGetName(pynvml.nvmlDeviceGetHandleByIndex(index))
            for index in range(pynvml.nvmlDeviceGetCount())
        ]
        driver = pynvml.nvmlSystemGetDriverVersion()
    except Exception:
        return None, None
    finally:
        pynvml.nvmlShutdown()
    words = [word.decode() if isinstance(word, bytes) else str(word) for word in (*found, driver)]
    return ", ".join(words[:-1]) or None, words[-1]


def git_commit() -> str | None:
    """Commit of the working directory, "+dirty" behind it where tracked files differ; None without one or git 2.31."""
    # The folder may be anybody's, and these settings name programs that git would run: nothing is set over them.
    filters = _git("config", "--name-only", "--get-regexp", r"^filter\.") or ""
    off = [f"--config-env={name}={_NOTHING}" for name in ("core.fsmonitor", *filters.splitlines())]
    return _git(*off, "--no-optional-locks", "describe", "--always", "--abbrev=40", "--exclude=*", "--dirty=+dirty")


_NOTHING = "TIFFIN_NOTHING"  # a variable that is empty


def _git(*words: str) -> str | None:
    try:
        asked = subprocess.run(["git", *words], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=5,
                               env={**os.environ, _NOTHING: ""})  # fmt: skip
    except (OSError, ValueError, subprocess.SubprocessError):
        return None
    return asked.stdout.strip() or None if asked.returncode == 0 else None


def versions(packages: Iterable[str] = ENGINE_PACKAGES) -> dict[str, str]:
    """Installed versions by package name; a package that is not installed is left out."""
    from importlib import metadata  # 15 ms that opening a session does not pay

    found = {}
    for name in packages:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def environment() -> dict[str, Any]:
    """All that a record says of the machine it was made on, as plain JSON values; None is what nothing tells."""
    gpu, gpu_driver = gpus()
    return {
        "cpu": cpu_model(),
        "cpu_features": list(cpu_features()),
        "board": board(),
        "cores": usable_cores(),
        "cores_total": os.cpu_count(),
        "threads_per_core": threads_per_core(),
        "memory_bytes": memory_bytes(),
        "cgroup_cpu_quota": _cgroup_cpu_quota(),
        "cgroup_memory_bytes": cgroup_memory_bytes(),
        "governor": _read("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
        "hypervisor": has_hypervisor(),
        "gpu": gpu,
        "gpu_driver": gpu_driver,
        "load_1min": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
        "system": f"{platform.system()} {platform.machine()}",
        "kernel": platform.release(),
        "clock_source": _read("/sys/devices/system/clocksource/clocksource0/current_clocksource"),
        "python": sys.version.split()[0],
        "versions": versions(),
        "git_commit": git_commit(),
    }


def utc_now() -> str:
    """When a record was made: ISO 8601, UTC, to the second."""
    return datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
