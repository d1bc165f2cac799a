"""The examples, run as a user runs them."""

import subprocess
import sys

import pytest


def run(project, *arguments):
    command = [sys.executable, str(project / "examples" / arguments[0]), *map(str, arguments[1:])]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_the_null_model_of_the_shipped_data(project):
    result = run(project, "null_model.py")
    assert result.returncode == 0, result.stderr
    for figure in ("319.7", "-159.83", "1527.500", "19.383", "1764 ", "2451 ", "0.418", "1445.2 to 1609.8", "-17.61"):
        assert figure in result.stdout


def test_the_chapters_figures(project, reference):
    result = run(project, "null_model.py", "--data", reference.path("heck2011.csv"), "--y", "math", "--groups", "schcode")
    assert result.returncode == 0, result.stderr
    for figure in ("6871", "419", "48877.3", "-24438.63", "57.6742", "0.1883", "10.64", "3.262", "66.55", "8.158", "0.138"):
        assert figure in result.stdout
    assert "51.28 to 64.07" in result.stdout
    school_1 = next(line for line in result.stdout.splitlines() if line.startswith("1 "))
    assert school_1.split() == ["1", "12", "59.00", "0.657", "0.869", "1.91"]


def test_the_chapter_from_start_to_finish(project, reference, tmp_path):
    data = reference.path("heck2011.csv")
    result = run(project, "first_multilevel_model.py", "--data", data, "--output", tmp_path / "figures")
    assert result.returncode == 0, result.stderr
    output = result.stdout
    figures = [
        *("6871 rows in 419 groups", "Random intercept model fitted by REML", "REML criterion at convergence 48877.3"),
        *("Number of observations 6871, groups (schcode) 419", "-3.6336  -0.5732  0.1921  0.6115  5.2989"),
        *("schcode (Intercept)     10.64      3.262", "residual                66.55      8.158"),
        *("(Intercept)   57.6742      0.1883  416.1  306.34   <0.001  ***", "intercept 57.6742, df 416.0655"),
        *(
            "log-likelihood -24438.63 (df=3)",
            "1. fixed intercept              57.67",
            "total variance 10.64 + 66.55 = 77.19",
        ),
        *("10.64 / 77.19 = 0.138", "13.8% of the variance", "adjusted ICC 0.138, unadjusted ICC 0.138"),
        *(
            "51.28024 to 64.06822",
            "95% of intercepts lie between 51 and 64, 13 apart",
            "mean of its 12 rows        58.99677",
        ),
        *("10.64 / (10.64 + 66.55 / 12) = 0.657", "58.544 - 57.674 = 0.869", "from the model:             0.869"),
        *("0.869 1.909        0.657  12", "419 estimates: mean 0.00", "93% of them between -5 and 5"),
    ]
    # In the order of the chapter.
    at = 0
    for figure in figures:
        at = output.index(figure, at)
    assert len(list((tmp_path / "figures").glob("*.png"))) == 13


def test_the_first_model_of_simulated_pupils_needs_no_file_and_draws_nothing(project, tmp_path):
    result = run(project, "first_multilevel_model.py")
    assert result.returncode == 0, result.stderr
    assert "6871 rows in 419 groups" in result.stdout
    assert "figures are in" not in result.stdout
    result = run(project, "first_multilevel_model.py", "--data", tmp_path / "none.csv")
    assert result.returncode == 2
    assert "cannot read" in result.stderr


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
    result = run(project, "null_model.py", *(argument.format(csv=path) for argument in arguments))
    assert result.returncode == 2
    assert message in result.stderr


def test_rows_with_missing_values_are_left_out_and_counted(project, tmp_path):
    path = tmp_path / "some.csv"
    path.write_text("y,g\n1,a\n2,a\n,b\n3,b\n7,b\n8,\n", encoding="utf-8")
    result = run(project, "null_model.py", "--data", path, "--y", "y", "--groups", "g")
    assert result.returncode == 0, result.stderr
    assert "Left out 2 rows" in result.stdout
    assert "4 rows in 2 groups" in result.stdout


def test_the_baselines_of_the_shipped_data(project):
    result = run(project, "ols_baselines.py")
    assert result.returncode == 0, result.stderr
    for line in (
        "CR2                     1.546   17 degrees of freedom",
        "random intercept model  0.804",
        "Random intercept model and least squares: 180 rows in 18 groups",
        "Random intercept model and least squares: 6871 rows in 419 groups",
    ):
        assert line in result.stdout
    assert "Coefficients within and between groups differ (ses: 3.51 within, 4.68 between; p < 0.001)" in " ".join(
        result.stdout.split()
    )


def test_random_slopes_from_start_to_finish(project, tmp_path):
    result = run(project, "random_slopes.py", "--output", tmp_path / "figures")
    assert result.returncode == 0, result.stderr
    output = " ".join(result.stdout.split())
    figures = [
        *("slopes from -2.9 to 21.8", "REML criterion at convergence 1743.6", "days 35.07 5.922 0.066"),
        *("standard deviation of 5.9", "sd(days) 3.93 9.15", "days 1786 42.84 2 2.793e-10"),
        *("random slope 10.47 1.55 17.00", "Averaged over the rows: 0.72", "someone new 356 205 507"),
        *("ses 0.772 1.648 0.319", "no more than chance"),
    ]
    at = 0
    for figure in figures:
        at = output.index(figure, at)
    assert len(list((tmp_path / "figures").glob("*.png"))) == 4


def test_the_baselines_of_a_file(project, tmp_path):
    path = tmp_path / "some.csv"
    rows = [f"{i % 7},{(i * i) % 11},g{i % 6}" for i in range(60)]
    path.write_text("\n".join(["y,x,g", *rows, ",1,g1"]), encoding="utf-8")
    result = run(project, "ols_baselines.py", "--data", path, "--y", "y", "--x", "x", "--groups", "g")
    assert result.returncode == 0, result.stderr
    assert "Left out 1 rows" in result.stdout
    assert "60 rows in 6 groups" in result.stdout
    result = run(project, "ols_baselines.py", "--data", path, "--y", "y", "--x", "z", "--groups", "g")
    assert result.returncode == 2
    assert "no column 'z'" in result.stderr


def test_cross_validation_by_either_way_gives_the_same(project):
    result = run(project, "cross_validation.py")
    assert result.returncode == 0, result.stderr
    assert result.stdout.count("R^2 0.6370") == 3
    assert "a warning: fit was given no groups, so the model is ordinary least squares" in result.stdout
    for line in ("known  model                   31.87", "OLS                     48.15"):
        assert line in result.stdout
