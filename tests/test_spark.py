"""Moments on Spark: the example, where Spark can run, and what it says where it cannot."""

import os
import shutil
import subprocess
import sys

import pytest


def run(project, environment):
    command = [sys.executable, str(project / "examples" / "spark_moments.py")]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment)


def test_moments_read_by_spark_fit_as_the_rows_do(project):
    pytest.importorskip("pyspark", reason="PySpark is not installed: pip install pyspark")
    pytest.importorskip("pyarrow", reason="PyArrow is not installed: pip install pyarrow")
    if not (shutil.which("java") or "JAVA_HOME" in os.environ):
        pytest.skip("there is no Java, in which Spark runs")
    result = run(project, dict(os.environ))
    assert result.returncode == 0, result.stderr
    assert "Spark: 6871 rows in 419 schools, from 2 states" in result.stdout
    assert "The two are the same to 1e-8, the schools' effects included." in result.stdout


def test_without_spark_or_java_the_example_says_so_in_a_sentence(project):
    without_java = {name: value for name, value in os.environ.items() if name != "JAVA_HOME"} | {"PATH": ""}
    result = run(project, without_java)
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith("This example needs ")
    assert len(result.stdout.splitlines()) == 1
