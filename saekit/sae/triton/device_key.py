"""What a check on a device depends on: the device and its driver, torch, triton, and saekit's own kernels.

Whatever is kept about a device (outcome.py, tiles.py) is kept under the digest of all of it, so that a new driver,
another version or one changed line of a kernel has it made again.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from ...cache_folder import cache_dir

FOLDER = Path(__file__).parent


@dataclass(frozen=True, kw_only=True)
class DeviceKey:
    """A device and the versions of all that runs on it."""

    device: str
    """Its name, as its driver has it."""
    capability: str
    """Compute capability, or the architecture's name on ROCm."""
    driver: str
    toolkit: str
    """CUDA or ROCm, as torch was built with."""
    torch: str
    triton: str
    """Empty where it is not installed."""
    saekit: str
    source: str
    """The digest of saekit/sae/triton."""

    @property
    def digest(self) -> str:
        """16 hexadecimal digits that are others when anything here is."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()[:16]

    def file(self, what: str) -> Path:
        """Where `what` is kept about it, in saekit's cache folder."""
        return cache_dir() / "gpu" / f"{what}-{self.digest}.json"


def device_key(device: torch.device) -> DeviceKey:
    """The key of a device as it is now.

    >>> from saekit.sae.triton.device_key import device_key
    >>> device_key(torch.device("cpu")).device
    "CPU, by Triton's interpreter"
    """
    name, capability = "CPU, by Triton's interpreter", ""
    if device.type == "cuda":
        properties: Any = torch.cuda.get_device_properties(device)
        name = properties.name
        capability = getattr(properties, "gcnArchName", "") if torch.version.hip else ""
        capability = capability or f"{properties.major}.{properties.minor}"
    return DeviceKey(
        device=name,
        capability=capability,
        driver=driver_version() if device.type == "cuda" else "",
        toolkit=f"ROCm {torch.version.hip}" if torch.version.hip else f"CUDA {torch.version.cuda}",
        torch=torch.__version__,
        triton=triton_version(),
        saekit=version_of("saekit"),
        source=source_digest(),
    )


def triton_version() -> str:
    """Triton's version without importing it; empty where it is not installed."""
    return version_of("triton", "pytorch-triton", "pytorch-triton-rocm", "triton-windows")


def version_of(*packages: str) -> str:
    """The version of the first of these packages that is installed; empty where none is."""
    for name in packages:
        try:
            return importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return ""


def driver_version() -> str:
    """The GPU driver's version as the kernel module or the driver library says it; empty where neither does."""
    for path in (Path("/proc/driver/nvidia/version"), Path("/sys/module/amdgpu/version")):
        if path.is_file():
            return path.read_text(errors="replace").splitlines()[0].strip()
    asked = getattr(torch._C, "_cuda_getDriverVersion", None)
    return str(asked()) if asked is not None else ""


def source_digest() -> str:
    """The SHA-256 of every file of this package: the kernels, their references and the checks."""
    found = hashlib.sha256()
    for path in sorted(FOLDER.glob("*.py")):
        found.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return found.hexdigest()
