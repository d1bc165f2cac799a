"""Moments on Spark: the lesson prints what its page shows, where Spark can run, and says what it needs where it cannot."""

import os
import shutil
import subprocess
import sys
from textwrap import dedent

import pytest


def lesson(project):
    return project / "examples" / "7_sizes" / "spark_moments.py"


def run(project, environment):
    command = [sys.executable, str(lesson(project))]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment)


def test_moments_read_by_spark_fit_as_the_rows_do_and_print_what_the_page_shows(project):
    pytest.importorskip("pyspark", reason="PySpark is not installed: pip install pyspark")
    pytest.importorskip("pyarrow", reason="PyArrow is not installed: pip install pyarrow")
    if not (shutil.which("java") or "JAVA_HOME" in os.environ):
        pytest.skip("there is no Java, in which Spark runs")
    result = run(project, dict(os.environ))
    assert result.returncode == 0, result.stderr
    block = lesson(project).read_text(encoding="utf-8").split("# .. code-block:: none\n#\n")[1]
    shown = dedent("\n".join(line.removeprefix("#") for line in block.splitlines()))
    assert result.stdout.strip() == shown.strip()
    assert "6871 rows in 419 schools, from 2 records" in shown
    assert "equal to 1e-8: estimates True, effects of schools True" in shown


def test_without_spark_or_java_the_lesson_fails_and_says_what_is_missing(project):
    without_java = {name: value for name, value in os.environ.items() if name != "JAVA_HOME"} | {"PATH": ""}
    result = run(project, without_java)
    assert result.returncode == 1
    assert any(name in result.stderr for name in ("pyspark", "pyarrow", "JAVA"))
