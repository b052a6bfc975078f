"""The linter and the test harness really refuse what the house forbids."""

import socket
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("source", "rule"),
    [
        ("import random\n", "TID251"),
        ("import os\n\nKEY = os.urandom(32)\n", "TID251"),
        ("import time\n\nNOW = time.time()\n", "TID251"),
        ("import time\n\nNOW = time.monotonic()\n", "TID251"),
        ("from datetime import UTC, datetime\n\nNOW = datetime.now(UTC)\n", "TID251"),
        ("import numpy as np\n\nRNG = np.random.default_rng(1)\n", "TID251"),
        ("import numpy as np\n\nnp.random.seed(1)\n", "NPY002"),
        ("import uuid\n\nNAME = uuid.uuid4()\n", "TID251"),
        ("from . import wire\n", "TID252"),
        ("print(1)\n", "T201"),
        ("def f() -> None:\n    try:\n        g()\n    except Exception:\n        pass\n", "BLE001"),
        ("# TODO: later\n", "FIX002"),
    ],
)
def test_linter_refuses(source: str, rule: str) -> None:
    text = f'"""A module."""\n\n{source}'
    assert rule in _codes("server/any_module.py", text)


@pytest.mark.parametrize("module", ["contract/clock.py", "contract/entropy.py", "contract/randomness.py"])
def test_the_three_modules_that_touch_the_originals_are_allowed_to(module: str) -> None:
    assert "TID251" not in _codes(module, (ROOT / module).read_text())


def test_connection_to_another_machine_fails() -> None:
    # 192.0.2.1 is reserved for documentation (RFC 5737): nothing is there, and nothing is sent.
    with socket.socket() as other, pytest.raises(pytest.fail.Exception, match=r"192\.0\.2\.1"):
        other.connect(("192.0.2.1", 80))


def test_connection_to_this_machine_is_allowed() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as client:
        assert client.getpeername() == server.getsockname()


def _codes(name: str, text: str) -> str:
    command = [sys.executable, "-m", "ruff", "check", "--output-format", "concise", "--stdin-filename", name, "-"]
    return subprocess.run(command, cwd=ROOT, input=text, capture_output=True, text=True, check=False).stdout
