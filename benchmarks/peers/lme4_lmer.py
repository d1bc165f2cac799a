"""``lmer`` of lme4, in R."""

from __future__ import annotations

import shutil
import subprocess
import warnings

import numpy as np

from . import Fit, formula_of, random_term

NAME = "lme4 lmer (R)"
REQUIRES = None
CALL = "`lmer(y ~ x1 + ... + (1 | g), frame)`, timed in R, the frame being there"
CALL_WITH_SLOPES = CALL.replace("(1 | g)", "(1 + x1 | g)")
# Data come by standard input, since a file would outlive a run over its time limit. The memory's high-water mark is reset.
SCRIPT = """
suppressMessages(library(lme4))
arguments <- commandArgs(trailingOnly = TRUE)
n <- as.numeric(arguments[1]); k <- as.integer(arguments[2])
invisible(lmer(Reaction ~ Days + (1 | Subject), sleepstudy))
input <- file("stdin", "rb")
frame <- lapply(1:(k + 1), function(i) readBin(input, "double", n))
names(frame) <- c(paste0("x", 1:k), "y")
frame$g <- readBin(input, "integer", n)
frame <- as.data.frame(frame)
invisible(gc())
memory <- function(name) as.numeric(gsub("[^0-9]", "", grep(name, readLines("/proc/self/status"), value = TRUE)))
writeLines("5", "/proc/self/clear_refs")
before <- memory("VmRSS")
seconds <- system.time(fit <- lmer(as.formula(arguments[3]), frame, REML = arguments[4] == "1"))[["elapsed"]]
peak <- 1024 * (memory("VmHWM") - before)
cat(format(packageVersion("lme4")), "\\n")
cat(format(c(seconds, peak, logLik(fit), sigma(fit)^2, VarCorr(fit)$g, fixef(fit)[-1]), digits = 17), "\\n")
"""


def fit(X: np.ndarray, y: np.ndarray, groups: np.ndarray, reml: bool, n_slopes: int) -> Fit:
    """Fit by REML or ML."""
    if shutil.which("Rscript") is None:
        raise ImportError("no Rscript")
    arguments = [str(len(X)), str(X.shape[1]), f"{formula_of(X)} + {random_term(n_slopes)}", str(int(reml))]
    command = ["Rscript", "-e", SCRIPT, *arguments]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        try:
            for column in [*X.T, y, groups.astype(np.int32)]:
                process.stdin.write(np.ascontiguousarray(column).data)
        except BrokenPipeError:  # R has stopped, and says why
            pass
        output, errors = process.communicate()
    if process.returncode:
        raise RuntimeError(errors.decode().strip().splitlines()[0])
    if errors:
        warnings.warn(errors.decode().strip().splitlines()[-1], stacklevel=2)
    version, numbers = output.decode().strip().splitlines()
    seconds, peak, log_likelihood, residual, *others = map(float, numbers.split())
    n_effects = 1 + n_slopes
    covariance, coef = np.split(np.array(others), [n_effects**2])
    covariance = covariance.reshape(n_effects, n_effects)
    method = "REML" if reml else "ML"
    return Fit(method, covariance, residual, coef, log_likelihood, seconds, peak, version.strip())
