"""What saekit finds on this machine: versions, devices, the GPU kernels' self-check, the default model, folders.

`doctor` is `saekit doctor`. It opens no socket and fetches nothing. What is broken and what is merely absent are told
apart: a machine without a GPU and without the default model is in order.
"""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from .cache_folder import cache_dir
from .display import Block, Words, details, document, note, shown, table
from .models.default_model import NAME, damaged_file
from .sae.triton import SelfCheck, available, gate, self_check, tiles
from .sae.triton.device_key import device_key, triton_version

if TYPE_CHECKING:
    import pandas as pd

PACKAGES = ("saekit", "torch", "transformer-lens", "transformers", "huggingface-hub", "numpy", "pandas", "anywidget")
GIGABYTE = 1e9
ROOM = 2 * GIGABYTE
"""What a folder's disk should have left: the default model, while it is converted, with room to spare."""
ABSENT, BROKEN, OK, NOTE = "absent", "BROKEN", "ok", "note"


@shown
def finding_html(f: Finding) -> str:
    """What was looked at and what is to be done."""
    return document(f.name, f"{f.state}; {f.detail}", note(f.fix, warn=True) if f.fix else None)


@shown
def diagnosis_html(d: Diagnosis) -> str:
    """What needs something to be done first, then a table for each part."""
    n = len(d.broken)
    parts = list(dict.fromkeys(f.part for f in d.findings))
    first = [f for f in d.findings if f.fix or f.state in (BROKEN, NOTE)]
    rest = {part: [f for f in d.findings if f.part == part] for part in parts}
    return document(
        "Diagnosis",
        "nothing is broken" if not n else f"{n} broken: " + ", ".join(f.name for f in d.broken),
        _table("Worth a look", first),
        *(details(f"{part}, {_states(found)}", _table("", found)) for part, found in rest.items()),
    )


def _states(findings: list[Finding]) -> str:
    states = [f.state for f in findings]
    return ", ".join(f"{states.count(s)} {s}" for s in (BROKEN, NOTE, OK, ABSENT) if s in states)


def _table(caption: str, findings: list[Finding]) -> Block | None:
    """A row for each finding; a kernel's with its largest difference."""

    def found(f: Finding) -> str:
        differs = "" if f.difference is None else f"differs by {f.difference:.1e}, may by {f.tolerance:.0e}; "
        return differs + f.detail

    columns = [Words("", [f.name for f in findings]), Words("state", [f.state for f in findings])]
    columns += [Words("found", [found(f) for f in findings])]
    if any(f.fix for f in findings):
        columns.append(Words("what to do", [f.fix for f in findings]))
    return table(columns, caption=caption)


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing that was looked at."""

    part: str
    """versions, devices, kernels, model or folders."""
    name: str
    state: str
    """ok; absent, which is in order; note, worth knowing; BROKEN, which needs something to be done."""
    detail: str
    difference: float | None = None
    """Of a kernel: the largest difference from its reference, as a fraction of the largest number."""
    tolerance: float | None = None
    """Of a kernel: what that difference may be."""
    fix: str = ""

    _repr_html_ = finding_html


@dataclass(frozen=True, kw_only=True, repr=False)
class Diagnosis:
    """What was found on this machine. Printed, a table; truth value: whether nothing is broken."""

    findings: tuple[Finding, ...]
    checks: tuple[SelfCheck, ...] = ()
    """The self-check of each GPU."""

    @property
    def broken(self) -> tuple[Finding, ...]:
        """What needs something to be done."""
        return tuple(f for f in self.findings if f.state == BROKEN)

    def __bool__(self) -> bool:
        return not self.broken

    def to_frame(self) -> pd.DataFrame:
        """One row a finding: part, name, state, detail, difference, tolerance, fix."""
        import pandas as pd

        return pd.DataFrame([asdict(f) for f in self.findings])

    def __repr__(self) -> str:
        lines, part = [], ""
        width = max(len(f.name) for f in self.findings)
        for f in self.findings:
            if f.part != part:
                part = f.part
                lines.append(part)
            numbers = "" if f.difference is None else f"largest difference {f.difference:.1e} of {f.tolerance:.0e}; "
            lines.append(f"  {f.name:{width}}  {f.state:6}  {numbers}{f.detail}".rstrip())
            lines += [f"  {'':{width}}          {f.fix}"] if f.fix else []
        n = len(self.broken)
        lines.append("nothing is broken" if not n else f"{n} broken: " + ", ".join(f.name for f in self.broken))
        return "\n".join(lines)

    _repr_html_ = diagnosis_html


def doctor(*, recheck: bool = False) -> Diagnosis:
    """What saekit finds on this machine: versions, devices, kernels, the default model, cache folders and disk space.

    On a GPU that was not checked yet, the kernels are checked against PyTorch first, once; `recheck` checks them again,
    whatever was found before. No socket is opened and nothing is fetched.

    >>> diagnosis = sk.doctor()
    >>> sorted(set(diagnosis.to_frame().part))
    ['devices', 'folders', 'kernels', 'model', 'versions']
    """
    devices = _gpus()
    checked: dict[torch.device, SelfCheck] = {}
    if gate.has_triton() and not gate.switched_off():
        checked = {device: self_check(device, again=recheck) for device in devices}
    findings = [*_versions(), *_devices(devices), *_kernels(devices, checked), _default_model(), *_folders()]
    return Diagnosis(findings=tuple(findings), checks=tuple(checked.values()))


def _gpus() -> list[torch.device]:
    """The devices that have kernels."""
    n = torch.cuda.device_count() if torch.cuda.is_available() else 0
    return [torch.device("cuda", i) for i in range(n)]


def _versions() -> Iterator[Finding]:
    yield Finding(
        part="versions", name="python", state=OK, detail=f"{platform.python_version()}, {platform.platform()}"
    )
    for name in PACKAGES:
        try:
            yield Finding(part="versions", name=name, state=OK, detail=importlib.metadata.version(name))
        except importlib.metadata.PackageNotFoundError:
            needed = name in ("torch", "transformer-lens", "transformers")
            yield Finding(
                part="versions", name=name, state=BROKEN if needed else ABSENT, detail="not installed as a package"
            )
    version = triton_version()
    detail = version or "not installed; only a CUDA or ROCm device has a use for it"
    yield Finding(part="versions", name="triton", state=OK if version else ABSENT, detail=detail)


def _devices(devices: list[torch.device]) -> Iterator[Finding]:
    threads = f"{torch.get_num_threads()} threads of {os.cpu_count()} processors; everything runs here"
    yield Finding(part="devices", name="cpu", state=OK, detail=threads)
    for device in devices:
        key = device_key(device)
        memory = f"{torch.cuda.mem_get_info(device)[1] / GIGABYTE:.0f} GB, " if device.type == "cuda" else ""
        detail = f"{key.device}, {memory}capability {key.capability}, {key.toolkit}, driver {key.driver or 'unknown'}"
        yield Finding(part="devices", name=str(device), state=OK, detail=detail)
    if not devices:
        built = torch.version.cuda or torch.version.hip
        detail = "torch sees no device" if built else "this torch is built without CUDA and ROCm"
        if shutil.which("nvidia-smi") or shutil.which("rocm-smi"):
            fix = "a driver is there: install a build of torch for it from pytorch.org, if the GPU is to be used"
            yield Finding(part="devices", name="cuda", state=NOTE, detail=detail, fix=fix)
        else:
            yield Finding(part="devices", name="cuda", state=ABSENT, detail=detail)
    if torch.backends.mps.is_available():
        yield Finding(part="devices", name="mps", state=OK, detail="Apple's GPU, through plain PyTorch")


def _kernels(devices: list[torch.device], checked: dict[torch.device, SelfCheck]) -> Iterator[Finding]:
    if not devices:
        detail = "no CUDA or ROCm device: plain PyTorch is used, as it is meant to be"
        yield Finding(part="kernels", name="triton kernels", state=ABSENT, detail=detail)
    for device in devices:
        if device not in checked:
            off = gate.switched_off()
            detail = f"switched off by {gate.SWITCH}" if off else "Triton is not installed"
            fix = f"unset {gate.SWITCH} to use them" if off else "pip install triton"
            yield Finding(part="kernels", name=str(device), state=NOTE, detail=f"{detail}: plain PyTorch", fix=fix)
        else:
            yield from _outcome(device, checked[device])


def _outcome(device: torch.device, found: SelfCheck) -> Iterator[Finding]:
    """Whether the kernels are used on a device, and the worst check of each kernel."""
    used = available(device)
    failed = gate.failure(device) or found.reason
    yield Finding(
        part="kernels",
        name=str(device),
        state=OK if used else BROKEN,
        detail=f"checked against PyTorch in {found.seconds:.0f} s: used" if used else f"not used: {failed}",
        fix="" if used else "plain PyTorch is used instead. `saekit doctor --recheck` checks again",
    )
    for name, checks in found.by_kernel().items():
        worst = max(checks, key=lambda c: (not c.passed, c.difference is None, c.difference or 0.0))
        dropped = bool(worst.tiles) and not worst.passed and used
        yield Finding(
            part="kernels",
            name=name,
            state=OK if worst.passed else NOTE if dropped else BROKEN,
            detail=worst.reason + (" (these tiles are not used)" if dropped else "") or f"{len(checks)} cases",
            difference=worst.difference,
            tolerance=worst.tolerance,
        )
    for timing in tiles.timings(found.key).values():
        said = ", ".join(f"{label} {1e3 * s:.3g} ms" for label, s in timing.seconds.items())
        detail = f"{timing.chosen} of {said}" + "".join(f"; without {t}: {w}" for t, w in timing.dropped.items())
        yield Finding(part="kernels", name=timing.size, state=OK, detail=detail)


def _default_model() -> Finding:
    folder = cache_dir() / "models" / NAME
    if not folder.is_dir():
        detail = "not in the cache; needed by load_model() without a name"
        fix = "`saekit fetch` fetches it, 98 MB, once"
        return Finding(part="model", name=NAME, state=ABSENT, detail=detail, fix=fix)
    damaged = damaged_file(folder)
    if damaged is None:
        return Finding(part="model", name=NAME, state=OK, detail=f"in the cache, whole: {folder}")
    detail = f"{folder / damaged} is damaged or missing"
    return Finding(part="model", name=NAME, state=BROKEN, detail=detail, fix="`saekit fetch` fetches it again")


def _folders() -> Iterator[Finding]:
    hub = Path(os.environ.get("HF_HUB_CACHE") or Path(os.environ.get("HF_HOME", "~/.cache/huggingface")) / "hub")
    compiled = Path(os.environ.get("TRITON_CACHE_DIR", "~/.triton/cache"))
    for name, folder in (("saekit's cache", cache_dir()), ("Hugging Face's cache", hub), ("Triton's cache", compiled)):
        yield _folder(name, folder.expanduser(), needed=name == "saekit's cache")


def _folder(name: str, folder: Path, *, needed: bool) -> Finding:
    """Whether a folder can be written, or made, and the room on its disk."""
    there = next((p for p in (folder, *folder.parents) if p.exists()), Path("/"))
    free = shutil.disk_usage(there).free
    detail = f"{folder}, {free / GIGABYTE:.1f} GB free" + ("" if folder.exists() else ", not made yet")
    if there.is_dir() and os.access(there, os.W_OK | os.X_OK):
        if free < ROOM:
            fix = f"less than {ROOM / GIGABYTE:.0f} GB: free some space, or set SAEKIT_CACHE"
            return Finding(part="folders", name=name, state=NOTE, detail=detail, fix=fix)
        return Finding(part="folders", name=name, state=OK, detail=detail)
    fix = "name another folder in SAEKIT_CACHE" if needed else "it is used where it can be written"
    return Finding(
        part="folders", name=name, state=BROKEN if needed else NOTE, detail=f"{detail}, cannot be written", fix=fix
    )
