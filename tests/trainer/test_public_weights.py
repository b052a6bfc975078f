"""Models that start from public weights, and compiled programs that are kept."""

import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from trainer import compile_cache, weights
from trainer.models import for_task, get


def safetensors(arrays: dict[str, np.ndarray]) -> bytes:
    header: dict[str, object] = {"__metadata__": {"format": "np"}}
    body = b""
    for name, array in arrays.items():
        header[name] = {"dtype": "F32", "shape": array.shape, "data_offsets": [len(body), len(body) + array.nbytes]}
        body += array.tobytes()
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + body


@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
def test_model_starts_from_the_weights_of_a_file(tmp_path: Path, suffix: str) -> None:
    model = get("mlp")
    start = model.init(9)
    path = tmp_path / f"start{suffix}"
    if suffix == ".npz":
        np.savez(path, **model.unravel(start))
    else:
        path.write_bytes(safetensors(model.unravel(start)))
    np.testing.assert_array_equal(for_task("mlp", init_from=str(path)).init(0), start)


def test_weights_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "w.npz", W1=np.zeros((2, 2)))
    with pytest.raises(ValueError, match="must hold"):
        for_task("mlp", init_from=str(tmp_path / "w.npz"))
    with pytest.raises(ValueError, match=r"\.npz or \.safetensors"):
        weights.read(tmp_path / "w.bin")
    with pytest.raises(ValueError, match="cannot be read"):
        weights.read(tmp_path / "absent.safetensors")


def test_head_belongs_to_text_selection_alone() -> None:
    with pytest.raises(ValueError, match="trainable must be 'all' for mlp"):
        for_task("mlp", trainable="head")


def test_compiled_programs_are_kept_in_a_folder_of_this_processor(tmp_path: Path) -> None:
    before = jax.config.jax_compilation_cache_dir
    try:
        folder = compile_cache.enable(tmp_path)
        assert folder.parent == tmp_path
        assert jax.config.jax_compilation_cache_dir == str(folder)
    finally:
        jax.config.update("jax_compilation_cache_dir", before)


def test_only_a_process_on_one_core_that_has_not_begun_keeps_programs_by_itself(tmp_path: Path) -> None:
    script = (
        "import os, sys\n"
        "if sys.argv[1] == 'one': os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})\n"
        "import jax, jax.numpy as jnp\n"
        "from trainer import compile_cache\n"
        "if sys.argv[2] == 'begun': jnp.zeros(1)\n"
        "print(compile_cache.enable_on_one_core())\n"
    )

    def folder(cores: str, state: str, **extra: str) -> str:
        environment = os.environ | {"XDG_CACHE_HOME": str(tmp_path), "JAX_PLATFORMS": "cpu"} | extra
        ran = subprocess.run(
            [sys.executable, "-c", script, cores, state], env=environment, capture_output=True, text=True, check=True
        )
        return ran.stdout.strip()

    assert folder("one", "fresh").startswith(str(tmp_path / "tutti" / "compiled"))
    assert folder("one", "fresh").endswith("-1")
    assert folder("one", "begun") == "None"
    assert folder("one", "fresh", JAX_COMPILATION_CACHE_DIR=str(tmp_path)) == "None"
    if len(os.sched_getaffinity(0)) > 1:
        assert folder("all", "fresh") == "None"
