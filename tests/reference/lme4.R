# Writes lme4.json: what lme4 and the packages around it find in the data sets Dyestuff and sleepstudy of lme4.
#
# The figures were made with R 4.2.2, lme4 1.1-31, lmerTest 3.1-3, pbkrtest 0.5.2, performance 0.10.2, insight 0.19.0,
# RLRsim 3.1-8, Matrix 1.5-3 and jsonlite 1.8.4.

library(lme4)

# The optimum of theta = tau / sigma. lmer's optimiser stops within about 1e-9 of it. Both designs are balanced, so the
# analysis of variance gives it in closed form.
best_theta <- function(fixed, group, data, reml) {
  variances <- anova(lm(update(fixed, paste("~ . +", group)), data))[c(group, "Residuals"), ]
  n_groups <- nlevels(data[[group]])
  df <- if (reml) variances$Df else c(n_groups, nrow(data) - n_groups)
  mean_squares <- variances[["Sum Sq"]] / df
  sqrt((mean_squares[1] / mean_squares[2] - 1) * n_groups / nrow(data))
}

# The model that lmer returns if its optimiser stops at theta.
model_at <- function(theta, formula, data_name, reml) {
  call <- bquote(lmer(formula = .(formula), data = .(as.name(data_name)), REML = .(reml)))
  parts <- lFormula(formula, get(data_name), REML = reml)
  objective <- do.call(mkLmerDevfun, parts)
  optimum <- list(par = theta, fval = objective(theta), feval = 1, conv = 0, message = "closed form")
  attr(optimum, "optimizer") <- "nloptwrap" # confint() profiles with the same optimiser
  mkMerMod(environment(objective), optimum, parts$reTrms, parts$fr, mc = call)
}

# Exact 95% profile limits of an ML fit, in the order of confint(): tau, sigma, coefficients. (confint interpolates the
# profile.) A limit is where the deviance, minimised over all other parameters, has risen by the quantile of chi-squared. In
# the basis of the eigenvectors of ZZ' the rows are independent, with variances sigma^2 (1 + theta^2 value).
profile_roots <- function(fit) {
  basis <- eigen(tcrossprod(as.matrix(getME(fit, "Z"))), symmetric = TRUE)
  X <- crossprod(basis$vectors, getME(fit, "X"))
  y <- drop(crossprod(basis$vectors, getME(fit, "y")))
  n <- length(y)
  least <- function(deviance, y, X) {
    at <- function(theta) {
      scale <- sqrt(1 + theta^2 * pmax(basis$values, 0))
      deviance(theta, 2 * sum(log(scale)), sum(qr.resid(qr(X / scale), y / scale)^2))
    }
    optimize(at, c(0, 10), tol = 1e-9)$objective
  }
  at_sigma <- function(sigma) least(function(theta, logdet, rss) 2 * n * log(sigma) + logdet + rss / sigma^2, y, X)
  at_tau <- function(tau) {
    least(function(theta, logdet, rss) 2 * n * log(tau / theta) + logdet + rss * (theta / tau)^2, y, X)
  }
  at_coefficient <- function(k) function(b) {
    least(function(theta, logdet, rss) n * log(rss / n) + logdet + n, y - b * X[, k], X[, -k, drop = FALSE])
  }
  top <- at_sigma(sigma(fit)) + qchisq(0.95, 1)
  limits <- function(deviance, lower, estimate, upper) {
    root <- function(interval) uniroot(function(value) deviance(value) - top, interval, tol = 1e-11)$root
    c(root(c(lower, estimate)), root(c(estimate, upper)))
  }
  tau <- getME(fit, "theta") * sigma(fit)
  beta <- fixef(fit)
  far <- 5 * sqrt(diag(as.matrix(vcov(fit))))
  found <- cbind(
    limits(at_tau, tau / 5, tau, tau * 5),
    limits(at_sigma, sigma(fit) / 5, sigma(fit), sigma(fit) * 5),
    sapply(seq_along(beta), function(k) limits(at_coefficient(k), beta[k] - far[k], beta[k], beta[k] + far[k]))
  )
  list(lower = found[1, ], upper = found[2, ])
}

# I() writes a single number as an array.
column <- function(table, name) I(unname(table[, name]))

estimates <- function(fit) {
  tests <- coef(summary(lmerTest::as_lmerModLmerTest(fit), ddf = "Satterthwaite"))
  covariance <- unname(as.matrix(vcov(fit)))
  log_likelihood <- logLik(fit)
  list(
    beta = I(unname(fixef(fit))), se = I(sqrt(diag(covariance))), vcov_beta = covariance,
    tau2 = VarCorr(fit)[[1]][1], sigma2 = sigma(fit)^2,
    criterion = -2 * as.numeric(log_likelihood), logLik = as.numeric(log_likelihood), df = attr(log_likelihood, "df"),
    AIC = AIC(fit), BIC = BIC(fit),
    satterthwaite = list(df = column(tests, "df"), t = column(tests, "t value"), p = column(tests, "Pr(>|t|)"))
  )
}

tests_and_shares <- function(fit) {
  tested <- lmerTest::as_lmerModLmerTest(fit)
  tests <- coef(summary(tested, ddf = "Kenward-Roger")) # from pbkrtest
  effects <- as.data.frame(ranef(fit))
  icc <- performance::icc(fit)
  r2 <- performance::r2_nakagawa(fit)
  ranova <- lmerTest::ranova(tested)
  list(
    kenward_roger = list(
      se = column(tests, "Std. Error"), df = column(tests, "df"), t = column(tests, "t value"),
      p = column(tests, "Pr(>|t|)")
    ),
    # In a balanced design all groups have the same conditional standard deviation.
    ranef = list(group = as.character(effects$grp), condval = effects$condval, condsd = effects$condsd[1]),
    predict_first_rows = list(
      population = unname(predict(fit, re.form = NA)[1:10]), conditional = unname(predict(fit)[1:10])
    ),
    scaled_residual_quantiles = unname(quantile(residuals(fit, "pearson", scaled = TRUE))),
    icc = list(adjusted = icc$ICC_adjusted, unadjusted = icc$ICC_unadjusted),
    r2_nakagawa = list(marginal = unname(r2$R2_marginal), conditional = unname(r2$R2_conditional)),
    ranova = list(chi2 = ranova$LRT[2], p = ranova[["Pr(>Chisq)"]][2]),
    exactRLRT = list(p = unname(RLRsim::exactRLRT(fit, nsim = 20000, seed = 1)$p.value))
  )
}

intervals <- function(reml, ml) {
  profile <- confint(reml, method = "profile", quiet = TRUE)
  plausible <- fixef(reml)[[1]] + qnorm(c(0.025, 0.975)) * sqrt(VarCorr(reml)[[1]][1])
  list(
    confint_profile = list(lower = unname(profile[, 1]), upper = unname(profile[, 2])),
    confint_profile_exact = profile_roots(ml),
    plausible_range_95 = plausible
  )
}

figures <- function(fixed, group, data_name) {
  formula <- update(fixed, paste0("~ . + (1 | ", group, ")"))
  fit <- function(reml) model_at(best_theta(fixed, group, get(data_name), reml), formula, data_name, reml)
  reml <- fit(TRUE)
  ml <- fit(FALSE)
  only_of_reml <- c(tests_and_shares(reml), intervals(reml, ml))
  list(REML = c(estimates(reml), only_of_reml), ML = estimates(ml))
}

all <- list(
  dyestuff_null = figures(Yield ~ 1, "Batch", "Dyestuff"),
  sleepstudy_days = figures(Reaction ~ Days, "Subject", "sleepstudy")
)
jsonlite::write_json(all, "lme4.json", auto_unbox = TRUE, digits = NA, pretty = TRUE)
