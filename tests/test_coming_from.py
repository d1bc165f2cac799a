"""The pages for readers who come from another tool: figures of the tool and of this package, and dictionaries that work."""

import copy
import json
import re
import warnings
from decimal import Decimal
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from pages import FENCE, blocks, sentences

import sklearn_mlm
from sklearn_mlm import (
    ClusterRobustOLS,
    MixedEffectsRegressor,
    RandomInterceptRegressor,
    WithinOLS,
    baselines,
    display,
    inference,
    model_selection,
)
from sklearn_mlm.datasets import load_dyestuff, load_sleepstudy
from sklearn_mlm.formula import FormulaRegressor, lmer

FOLDER = Path(__file__).resolve().parents[1] / "docs" / "coming_from"
FIGURES = json.loads((FOLDER / "figures.json").read_text(encoding="utf-8"), parse_float=Decimal, parse_int=Decimal)
ENTRIES = {name: entry for name, entry in FIGURES.items() if name != "about"}
PAGES = ["lme4.md", "statsmodels.md", "stata.md", "merf_and_gpboost.md", "mixedmodels_jl.md", "spss_and_sas.md"]
# Tools that cannot be run by everyone, and whose documentation has no figures for the data sets that ship.
WITHOUT_FIGURES = {"stata.md", "spss_and_sas.md"}
NUMBER = re.compile(r"(<\s*)?(?<![\w.])[-+]?(?:\d+\.?\d*|\.\d+)(?:e[-+]?\d+)?(?![\w])")

each_page = pytest.mark.parametrize("name", PAGES)


# ---- what a page holds


def read(name):
    """Return the text of a page, without its keywords."""
    text = (FOLDER / name).read_text(encoding="utf-8")
    return re.sub(r"\A---\n.*?\n---\n\n", "", text, flags=re.DOTALL)


def foreign_outputs(name):
    """Return what the other tool printed."""
    return [text for kind, text in blocks(read(name)) if kind == "text"]


def own_output(name):
    """Return what the page's own code prints."""
    text = "\n".join(text for kind, text in blocks(read(name)) if kind == "python" and ">>>" in text)
    return "\n".join(line for line in text.splitlines() if not line.startswith((">>>", "...")))


def rows(name):
    """Return the cells of each row of the dictionary tables of a page."""
    tables = re.findall(r"```\{rst-class\} dictionary\n```\n\n((?:\|.*\n)+)", read(name))
    found = []
    for table in tables:
        lines = [re.split(r"(?<!\\)\|", line.strip())[1:-1] for line in table.splitlines()]
        assert re.fullmatch(r"[-\s|]+", "|".join(lines[1]))
        found += [[cell.strip().replace(r"\|", "|") for cell in line] for line in lines[2:]]
    return found


def code(cell):
    """Return the pieces of code of a cell."""
    return re.findall(r"`([^`]+)`", cell)


def prose(name):
    """Return the sentences of a page, without code, tables, headings and addresses."""
    return "\n".join(line for line in sentences(read(name)).splitlines() if not line.startswith(("|", "#")))


# ---- numbers


def numbers(text):
    """Return the numbers of an output, each with whether it is a bound, without those of formulas and headings."""
    text = "\n".join(line for line in text.splitlines() if "~" not in line)
    text = re.sub(r"\([^()]*\|[^()]*\)|-2 (?=log)", "", text)
    return [(match[0].lstrip("< "), match[1] is not None) for match in NUMBER.finditer(text)]


def shows(token, is_bound, value):
    """Whether a printed number is a value, to the digits that it has."""
    if is_bound:
        return float(value) <= float(token)
    mantissa, _, exponent = token.lower().partition("e")
    digits = len(mantissa.partition(".")[2])
    step = Decimal(1).scaleb(int(exponent or 0) - digits)
    # Half a step, and the last of the digits of a double.
    return abs(Decimal(token) - Decimal(value)) <= step / 2 * (1 + Decimal("1e-9"))


def figures_of(name):
    """Return all values of the figures of a page."""
    return [value for entry in ENTRIES.values() if entry["page"] == name for value in entry["values"].values()]


@each_page
def test_every_number_that_another_tool_prints_is_in_the_file_of_figures(name):
    outputs = foreign_outputs(name)
    assert bool(outputs) == (name not in WITHOUT_FIGURES) == bool(figures_of(name))
    for output in outputs:
        for token, is_bound in numbers(output):
            assert any(shows(token, is_bound, value) for value in figures_of(name)), f"{name}: {token} in\n{output}"


@each_page
def test_every_number_in_a_sentence_is_a_figure_or_printed_by_the_page(name):
    printed = [token for token, _ in numbers(own_output(name))]
    versions = " ".join(entry["version"] for entry in ENTRIES.values() if entry["page"] == name)
    allowed = ALLOWED.get(name, {})
    for token, is_bound in numbers(prose(name)):
        values = [*figures_of(name), *(Decimal(each) for each in printed)]
        known = token in allowed or token in versions or any(shows(token, is_bound, value) for value in values)
        assert known, f"{name}: {token} is neither in figures.json nor printed by the page"


# Numbers in sentences that are no results: documented limits of a tool, exact zeros and ones, and years.
ALLOWED = {
    "lme4.md": {"0": "a variance at the boundary", "1": "a correlation at the boundary", "3000": "emmeans: pbkrtest.limit"},
    "statsmodels.md": {"0": "a variance at the boundary"},
    "merf_and_gpboost.md": {"0": "a variance at the boundary"},
    "mixedmodels_jl.md": {"0": "a variance at the boundary", "5": "version 5 of MixedModels.jl", "4": "its version 4"},
    "stata.md": {"0": "a variance at the boundary"},
    "spss_and_sas.md": {"0": "a variance at the boundary", "26": "the SPSS version that added Kenward and Roger's method"},
}


def test_every_figure_says_where_it_comes_from():
    for name, entry in ENTRIES.items():
        assert entry["page"] in PAGES, name
        assert entry["kind"] in ("run", "published"), name
        assert (entry["kind"] == "published") == ("source" in entry), name
        assert all(entry[key] for key in ("tool", "version", "date", "command", "why", "fit")), name
        assert entry["not_compared"].keys() <= entry["values"].keys(), name


# ---- the same models here


def sleepstudy():
    """Return the sleep study with its days in three phases."""
    frame = load_sleepstudy(as_frame=True).frame
    labels = ["before", "early", "late"]
    return frame.assign(phase=pd.cut(frame["days"], [-1, 1, 5, 9], labels=labels, ordered=False))


def fitted(fit):
    """Return the model that an entry names, and what its degrees of freedom are."""
    frame = sleepstudy()
    x, y, g = frame[["days"]], frame["reaction"], frame["subject"]
    ddf = "normal" if fit.endswith(" normal") else "satterthwaite"
    kind, *options = fit.split()
    method = "ml" if "ml" in options else "reml"
    if kind == "slopes":
        return MixedEffectsRegressor(random_effects="(1 + days | subject)", method=method).fit(x, y, groups=g), ddf
    if kind == "intercept":
        return RandomInterceptRegressor(method=method).fit(x, y, groups=g), "normal"
    if kind == "phases":
        return lmer("reaction ~ phase + (1 | subject)", frame), ddf
    if kind == "dyestuff":
        _, y, g = load_dyestuff(return_X_y_groups=True, as_frame=True)
        return RandomInterceptRegressor(method=method).fit(None, y, groups=g), ddf
    assert fit == "least squares CR1"
    return ClusterRobustOLS(cov_type="CR1").fit(x, y, groups=g), ddf


def results(fit):
    """Return what this package finds, under the names of figures.json."""
    model, ddf = fitted(fit)
    found = {}
    for effect, row in inference.fixed_effects(model, ddf=ddf).iterrows():
        found |= {f"{name} {effect}": row[name] for name in row.index}
        found[f"z {effect}"] = row["t"]
    if isinstance(model, ClusterRobustOLS):
        return found
    row = inference.glance(model).iloc[0]
    found |= {
        key: row[key] for key in ("n_samples", "n_groups", "n_parameters", "log_likelihood", "criterion", "aic", "bic")
    }
    found |= {"icc": row["icc"], "icc unadjusted": inference.icc(model, kind="unadjusted")}
    found |= {"r2 marginal": row["r2_marginal"], "r2 conditional": row["r2_conditional"]}
    found |= {"group size": row["n_samples"] / row["n_groups"], "mean group size": row["n_samples"] / row["n_groups"]}
    found |= variances(model)
    if fit.startswith("phases"):
        return found | phases(model)
    if not fit.startswith("dyestuff"):
        found |= predictions(model)
    if fit.startswith("slopes"):
        found |= slopes(model)
    return found


def variances(model):
    """Return variances, standard deviations and the correlation."""
    residual = model.variance_components_["residual"]
    found = {"variance residual": residual, "std. dev. residual": residual**0.5}
    if not isinstance(model, MixedEffectsRegressor):
        group = model.variance_components_.iloc[0]
        return found | {"variance (Intercept)": group, "std. dev. (Intercept)": group**0.5}
    (covariance,) = model.covariance_.values()
    for effect, variance in zip(covariance.columns, np.diag(covariance), strict=True):
        found |= {f"variance {effect}": variance, f"std. dev. {effect}": variance**0.5}
    between = covariance.iloc[0, 1]
    return found | {"covariance": between, "correlation": between / np.sqrt(np.prod(np.diag(covariance)))}


def predictions(model):
    """Return predictions of day 10 for a known and for a new subject, and how sure the model is of the subject's effect."""
    ten = pd.DataFrame({"days": [10, 10]})
    known, new = model.predict(ten, groups=[309, 999])
    found = {"predict known": known, "predict new": new, "predict day 10": model.predict(ten, groups="population")[0]}
    table = inference.random_effects_table(model)
    if not isinstance(model, MixedEffectsRegressor):
        found["predict var known"] = table.loc[309, "sd"] ** 2
        found["predict var new"] = model.variance_components_["group"]
        return found
    for subject in (308, 309):
        found |= {f"random effect {subject} {effect}": value for effect, value in model.random_effects_.loc[subject].items()}
    return found


def slopes(model):
    """Return the test of the slopes and the quartiles of the residuals."""
    test = inference.random_effects_test(model).loc["days"]
    frame = sleepstudy()
    scaled = inference.residuals(model, frame[["days"]], frame["reaction"], frame["subject"], scaled=True)
    less = RandomInterceptRegressor(method=model.method).fit(frame[["days"]], frame["reaction"], groups=frame["subject"])
    quartiles = dict(zip(("min", "q1", "median", "q3", "max"), scaled.quantile([0, 0.25, 0.5, 0.75, 1]), strict=True))
    found = {f"scaled residual {name}": value for name, value in quartiles.items()}
    found |= {"chi2 days": test["chi2"], "chi2 df days": test["df"], "p_naive days": test["p_naive"]}
    return found | {
        "log_likelihood without slopes": less.log_likelihood_,
        "aic without slopes": less.aic_,
        "n_parameters without slopes": inference.glance(less)["n_parameters"].iloc[0],
    }


def phases(model):
    """Return the test of the phases, their means and their comparisons."""
    row = inference.anova(model).loc["phase"]
    found = {f"anova phase {name}": row[name] for name in ("sum_sq", "F", "df1", "df2", "p_value")}
    means = inference.estimated_marginal_means(model, "phase")
    for label, table, column in (("mean", means, "phase"), ("pair", means.pairs(), "contrast")):
        for _, row in table.iterrows():
            found |= {f"{label} {row[column]} {name}": row[name] for name in row.index if name != column}
    return found | {"level": 0.95}


@pytest.mark.parametrize("name", ENTRIES)
def test_this_package_finds_the_figures_of_the_other_tool(name):
    entry = ENTRIES[name]
    ours = results(entry["fit"])
    relative = float(entry["tolerance"])
    for key, value in entry["values"].items():
        if key in entry["not_compared"]:
            continue
        # Small p-values multiply the error of their statistic, residuals and correlations have a unit of 1, and a printed
        # number has half a step of its last digit.
        slack = relative * (300 if key.startswith("p_") or " p_value" in key else 1)
        scale = 1.0 if key.startswith(("scaled residual", "correlation")) else abs(float(value))
        half_step = max(0.5 * 10.0 ** value.as_tuple().exponent, 1e-12)
        error = abs(float(ours[key]) - float(value))
        assert error <= slack * scale + half_step, f"{key}: {float(ours[key])!r} here, {value} there"


def test_printed_errors_of_variances_in_statsmodels_are_on_the_scale_that_the_page_tells():
    values = {key: float(value) for key, value in ENTRIES["statsmodels slopes"]["values"].items()}
    sigma2 = values["variance residual"]
    np.testing.assert_allclose(values["params subject Var"], values["variance (Intercept)"] / sigma2, rtol=1e-6)
    # Printed with three decimals.
    np.testing.assert_allclose(
        values["printed error variance (Intercept)"], values["params error subject Var"] * np.sqrt(sigma2), atol=5.1e-4
    )


def test_feasible_gls_of_stata_is_reml_if_all_groups_have_the_same_rows():
    """The page on Stata says so: Swamy and Arora's variances, by their textbook formulas, are those of REML."""
    frame = sleepstudy()
    x, y, g = frame[["days"]], frame["reaction"], frame["subject"]
    within = WithinOLS().fit(x, y, groups=g)
    between = y.groupby(g).mean()  # days are the same in all groups: the between regression has only a constant
    sigma2_e = within.residual_variance_
    sigma2_u = between.var(ddof=1) - sigma2_e / 10
    reml = RandomInterceptRegressor().fit(x, y, groups=g).variance_components_
    np.testing.assert_allclose(reml, [sigma2_u, sigma2_e], rtol=1e-9)


# ---- dictionaries


def worlds():
    """Return the models, rows and functions that the code of a dictionary may speak of, in four settings."""
    frame = sleepstudy()
    d = pd.DataFrame({"y": frame["reaction"], "x": frame["days"].astype(float), "f": frame["phase"], "g": frame["subject"]})
    rng = np.random.default_rng(0)
    d = d.assign(w=rng.integers(1, 4, len(d)).astype(float), z=rng.normal(size=len(d)))
    d["a"], d["b"] = d["f"].cat.codes.to_numpy() // 2 + rng.normal(size=len(d)), rng.normal(size=len(d))
    columns = d[["x", "a", "b"]].assign(f_b=(d["f"] == "early") * 1.0, f_c=(d["f"] == "late") * 1.0)
    names = {"np": np, "pd": pd, "lmer": lmer, "FormulaRegressor": FormulaRegressor, "sklearn_mlm": sklearn_mlm}
    for module in (sklearn_mlm, inference, display, baselines, model_selection):
        names |= {
            name: getattr(module, name) for name in getattr(module, "__all__", dir(module)) if not name.startswith("_")
        }
    common = {"d": d, "x": columns, "y": d["y"], "g": d["g"], "w": d["w"], "new": d.head(3)}
    nested = {f"m{i}": lmer(f"y ~ {part} + (1 | g)", d) for i, part in enumerate(("1", "x", "x + f"))}
    in_array = {
        f"m{i}": RandomInterceptRegressor().fit(columns.iloc[:, :i] if i else None, d["y"], groups=d["g"]) for i in range(3)
    }
    slopes_of_x = MixedEffectsRegressor(random_effects="(1 + x | g)").fit(columns, d["y"], groups=d["g"])
    models = {
        "random intercept": in_array | {"m": RandomInterceptRegressor().fit(columns, d["y"], groups=d["g"])},
        "random slopes": in_array | {"m": slopes_of_x},
        "formula": nested | {"m": lmer("y ~ x * f + (1 | g)", d)},
        "formula with slopes": nested | {"m": lmer("y ~ x + (1 + x | g)", d)},
        "within": in_array | {"m": WithinOLS().fit(columns, d["y"], groups=d["g"])},
    }
    return {name: names | common | world for name, world in models.items()}


@pytest.fixture(scope="module")
def settings():
    """Return the settings, made once."""
    return worlds()


def runs(piece, world):
    """Run a piece of code, and return the error that it ends with."""
    import matplotlib.pyplot as plt

    world = world | {name: copy.deepcopy(value) for name, value in world.items() if re.fullmatch(r"m\d?", name)}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", FutureWarning)
            exec(compile(piece, "<dictionary>", "exec"), world)
    except Exception as error:
        return error
    finally:
        plt.close("all")
    return None


@each_page
def test_every_row_of_a_dictionary_has_two_cells_and_names_only_code_that_runs(name, settings):
    table = rows(name)
    assert len(table) >= 20
    for row in table:
        assert len(row) == 2, row
        assert all(row), row
        assert code(row[1]) or row[1].startswith("none"), f"{row}: say 'none' and why, or give the code"
        for piece in code(row[1]):
            if re.fullmatch(r'"\w*"', piece):
                assert piece.strip('"') in CHOICES, f"{name}: {piece} is not a value of a parameter"
                continue
            errors = {}
            for setting, world in settings.items():
                if (error := runs(piece, world)) is None:
                    break
                errors[setting] = error
            assert len(errors) < len(settings), f"{name}: {piece} fails in each setting: {errors}"


# Words in quotation marks that a row may give alone, as values of a parameter that it names before.
CHOICES = {"error", "nan"}


def test_the_dictionary_of_lme4_knows_every_function_of_inference():
    named = " ".join(piece for row in rows("lme4.md") for piece in code(row[1]))
    assert [name for name in inference.__all__ if not re.search(rf"\b{name}\b", named)] == []


@each_page
def test_a_page_has_the_parts_that_all_pages_have_and_is_short(name):
    text = read(name)
    headings = re.findall(r"^## (.*)$", FENCE.sub("", text), re.MULTILINE)
    assert headings == ["What differs", "The dictionary", "One analysis in both", "See also"]
    assert re.match(r"# Coming from ", text)
    assert len(prose(name).split()) <= 900
    assert all(len(line) <= 125 for line in text.splitlines() if not line.startswith("|"))
    # A page shows 88 characters of code; the summary of a model is wider.
    commands = [line for _, block in blocks(read(name)) for line in block.splitlines() if "REML criterion at" not in line]
    assert max(map(len, commands)) <= 88


def test_the_list_of_pages_is_complete():
    toctree = next(text for kind, text in blocks(read("index.md")) if kind == "{toctree}")
    listed = [f"{line}.md" for line in toctree.split() if not line.startswith(":")]
    assert listed == PAGES
    assert sorted(path.name for path in FOLDER.glob("*.md")) == sorted([*PAGES, "index.md"])
    assert all(f"]({page})" in read("index.md") for page in PAGES)
