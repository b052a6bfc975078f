"""Generates Python and its types from every .proto file here (`python -m protos.generate`), or says what is stale (`--check`).

The generated files are committed, so that neither a user nor an image needs the compiler. A module's import path is its path
below the repository: `protos/tutti/v1/x.proto` becomes `protos.tutti.v1.x_pb2`.
"""

import os
import subprocess
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path

ROOT = Path(__file__).parents[1]
_SUFFIXES = ("_pb2.py", "_pb2.pyi", "_pb2_grpc.py", "_pb2_grpc.pyi")


def generate(target: Path) -> None:
    """Writes the generated files below `target`, at the same relative paths as their sources.

    Raises:
      subprocess.CalledProcessError: if the compiler refuses a source; its words are on stderr.
    """
    sources = sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "protos").rglob("*.proto"))
    if not sources:
        return
    scripts = str(Path(sys.executable).parent)  # the type generators are found by PATH
    includes = [
        f"-I{ROOT}",
        f"-I{_location('grpc_tools').parent / '_proto'}",
        f"-I{_location('google.api.http_pb2').parents[2]}",
    ]
    outputs = [f"--{kind}_out={target}" for kind in ("python", "mypy", "grpc_python", "mypy_grpc")]
    subprocess.run(
        [sys.executable, "-m", "grpc_tools.protoc", *includes, *outputs, *sources],
        check=True,
        env={**os.environ, "PATH": scripts + os.pathsep + os.environ.get("PATH", "")},
    )


def stale(root: Path) -> list[str]:
    """Relative paths of generated files below `root` that are missing, left over, or differ from what `generate` writes."""
    with tempfile.TemporaryDirectory() as folder:
        generate(Path(folder))
        fresh, committed = _generated(Path(folder)), _generated(root)
    return sorted(path for path in fresh.keys() | committed.keys() if fresh.get(path) != committed.get(path))


def main(arguments: list[str]) -> int:
    """Generates in place, or with `--check` names what is stale and answers 1."""
    if arguments != ["--check"]:
        generate(ROOT)
        return 0
    paths = stale(ROOT)
    for path in paths:
        sys.stderr.write(f"{path} is stale: run `make protos`\n")
    return 1 if paths else 0


def _location(module: str) -> Path:
    spec = find_spec(module)
    if spec is None or spec.origin is None:
        raise ValueError(f"{module} is not installed: `make sync` installs the development tools")
    return Path(spec.origin)


def _generated(root: Path) -> dict[str, bytes]:
    found = (path for path in (root / "protos").rglob("*_pb2*") if path.name.endswith(_SUFFIXES))
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in found}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
