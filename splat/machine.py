"""What computer this is."""

import os
import platform
import re
from pathlib import Path


def describe() -> dict[str, str]:
    """Names and values worth reading beside a time: processor, memory, graphics, software."""
    import torch

    import splat

    facts = {
        "Processor": processor(),
        "Cores": str(usable_cores()),
        "Memory": memory(),
        "Graphics": torch.cuda.get_device_name() if torch.cuda.is_available() else "none used",
        "System": f"{platform.system()} {platform.release()}",
        "Python": platform.python_version(),
        "PyTorch": torch.__version__,
        "splat": splat.__version__,
    }
    return {name: value for name, value in facts.items() if value}


def usable_cores() -> int:
    """How many cores the operating system lets this process use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def processor() -> str:
    """The processor's own name, where the system tells it."""
    info = Path("/proc/cpuinfo")
    if info.exists():
        names = re.findall(r"^model name\s*:\s*(.+)$", info.read_text(errors="replace"), re.MULTILINE)
        if names:
            return re.sub(r"\s+", " ", names[0])
    return platform.processor() or platform.machine()


def memory() -> str:
    """Installed memory, or nothing where the system does not tell."""
    try:
        return f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.0f} GiB"
    except (ValueError, OSError, AttributeError):
        return ""
