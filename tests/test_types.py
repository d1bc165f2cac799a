"""What a user's type checker says of the public names."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

TYPES = Path(__file__).parent / "types"


@pytest.fixture(scope="module")
def report():
    """Errors of `mypy --strict` for the files of a user, outside of the project's own configuration."""
    pytest.importorskip("mypy")
    command = [sys.executable, "-m", "mypy", "--strict", "--config-file=", "--no-error-summary", str(TYPES)]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout


def lines_with_errors(report, name):
    return {int(line) for line in re.findall(rf"{name}:(\d+): error", report)}


def test_what_is_right_passes(report):
    assert not lines_with_errors(report, "right.py"), report


def test_each_mistake_is_found(report):
    lines = (TYPES / "wrong.py").read_text(encoding="utf-8").splitlines()
    mistakes = {at for at, line in enumerate(lines, start=1) if re.match(r"(\w+\.)?\w+\(|pair: ", line)}
    assert len(mistakes) == 11
    assert lines_with_errors(report, "wrong.py") == mistakes, report
