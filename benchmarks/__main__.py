"""Run the benchmarks one after the other: `python -m benchmarks [NAME...]`, all of them where none is named."""

from __future__ import annotations

import subprocess
import sys

from benchmarks.pictures import data_folder, picture_files, val79

MODEL = "yolo11n-seg"


def commands() -> dict[str, list[str]]:
    """The arguments of each benchmark, in the order in which all are run."""
    weights = str(data_folder() / "weights" / f"{MODEL}.onnx")
    return {
        "overlap": [],
        "stages": [],
        "interactive": [],
        "queue_accuracy": [],
        "accuracy": [weights, str(val79())],
        "masks": [],
        "one_picture": [weights, str(picture_files(1)[0])],
        "folder": [weights, str(val79() / "images")],
        "devices": [weights, str(val79() / "images")],
        "workers": [],
        "large_picture": [],
        "scale": [],
    }


def main(names: list[str]) -> int:
    """Run those named, each as a process of its own; 1 where one failed."""
    known = commands()
    unknown = [name for name in names if name not in known]
    if unknown:
        print(f"no benchmark named {', '.join(unknown)}; there are: {', '.join(known)}", file=sys.stderr)
        return 2
    failed = False
    for name in names or known:
        command = ["-m", f"benchmarks.{name}", *known[name]]
        print(f"\n## python {' '.join(command)}\n", flush=True)
        failed |= subprocess.run([sys.executable, *command], check=False).returncode != 0
    return int(failed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
