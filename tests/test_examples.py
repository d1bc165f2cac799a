"""The script of the null model, run as a user runs it. The lessons are in `test_gallery.py`."""

import subprocess
import sys

import pytest


def run(project, *arguments):
    command = [sys.executable, str(project / "examples" / "null_model.py"), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_the_null_model_of_the_shipped_data(project):
    result = run(project)
    assert result.returncode == 0, result.stderr
    for figure in ("319.7", "-159.83", "1527.500", "19.383", "1764 ", "2451 ", "0.418", "1445.2 to 1609.8", "-17.61"):
        assert figure in result.stdout


def test_the_chapters_figures(project, reference):
    result = run(project, "--data", reference.path("heck2011.csv"), "--y", "math", "--groups", "schcode")
    assert result.returncode == 0, result.stderr
    for figure in ("6871", "419", "48877.3", "-24438.63", "57.6742", "0.1883", "10.64", "3.262", "66.55", "8.158", "0.138"):
        assert figure in result.stdout
    assert "51.28 to 64.07" in result.stdout
    school_1 = next(line for line in result.stdout.splitlines() if line.startswith("1 "))
    assert school_1.split() == ["1", "12", "59.00", "0.657", "0.869", "1.91"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--data", "pupils.csv"], "--data needs --y and --groups"),
        (["--data", "{csv}", "--y", "z", "--groups", "g"], "no column 'z'"),
    ],
)
def test_the_null_model_says_what_is_missing(project, tmp_path, arguments, message):
    path = tmp_path / "some.csv"
    path.write_text("y,g\n1,a\n2,a\n3,b\n", encoding="utf-8")
    result = run(project, *(argument.format(csv=path) for argument in arguments))
    assert result.returncode == 2
    assert message in result.stderr


def test_rows_with_missing_values_are_left_out_and_counted(project, tmp_path):
    path = tmp_path / "some.csv"
    path.write_text("y,g\n1,a\n2,a\n,b\n3,b\n7,b\n8,\n", encoding="utf-8")
    result = run(project, "--data", path, "--y", "y", "--groups", "g")
    assert result.returncode == 0, result.stderr
    assert "Left out 2 rows" in result.stdout
    assert "4 rows in 2 groups" in result.stdout
