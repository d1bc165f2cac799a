# What lme4, lmerTest and emmeans answer to the formulas in lmer.json for the rows in rows.csv:
#   LC_ALL=C.UTF-8 Rscript lmer.R
# R 4.2, lme4 1.1-31, lmerTest 3.1-3, emmeans 1.8.4.
suppressMessages({ library(lmerTest); library(emmeans); library(splines) })
d <- read.csv("rows.csv", check.names = FALSE, stringsAsFactors = FALSE)
d$late <- as.logical(d$late)
for (name in c("a", "b", "g", "k")) d[[name]] <- factor(d[[name]])
formulas <- c(
  "y ~ x + (1 | g)", "y~x*a+(1|g)", "y ~ a + (1 | g)", "y ~ 0 + a + (1 | g)", "y ~ a - 1 + (1 | g)", "y ~ a:b + (1 | g)",
  "y ~ 0 + a:b + (1 | g)", "y ~ a / x + (1 | g)", "y ~ a/b + (1 | g)", "y ~ b %in% a + (1 | g)", "y ~ (a + b + x)^2 + (1 | g)",
  "y ~ (a + b + x)^3 - a:b:x + (1 | g)", "y ~ a * b - a + (1 | g)", "y ~ x + x:a + (1 | g)", "y ~ x:a + (1 | g)",
  "y ~ 0 + x:a + b + (1 | g)", "y ~ b:a + a + (1 | g)", "y ~ log(x) + sqrt(x) + exp(-x) + (1 | g)",
  "y ~ I(x^2) + I( x*z ) + I((x-1)/2) + (1 | g)", "y ~ poly(x, 2) * a + (1 | g)",
  "y ~ scale(x) + scale(z, scale = FALSE) + (1 | g)", "y ~ bs(x, df = 4) + (1 | g)", "y ~ factor(dose) * b + (1 | g)",
  "y ~ C(a, contr.sum) * b + (1 | g)", "y ~ C(a, contr.helmert) + C(b, contr.SAS) + (1 | g)",
  "y ~ C(factor(dose), contr.poly) + (1 | g)", "y ~ C(a, contr.treatment) + (1 | g)", "y ~ late + (1 | g)",
  "y ~ late * x + late:a + (1 | g)", "y ~ I(x > 2) + (1 | g)", "y ~ factor(x > 2) + (1 | g)", "y ~ `dose mg` + z + (1 | g)",
  "y ~ x.1 + (1 | g)", "y ~ gr\u00f6\u00dfe + x:gr\u00f6\u00dfe + (1 | g)", "y ~ ((x)) + ((a + (b))) + (((1 | g)))",
  "log(y) ~ x + (1 | g)", "I(y / 2) ~ x + (1 | g)", "y ~ offset(2 * x) + a + (1 | g)", "y ~ 1 + (1 | g)", "y ~ (1 | g)",
  "y ~ -1 + x + (1 | g)", "y ~ x + (1 + x | g)", "y ~ a + (0 + a | g)", "y ~ x + (x || g)", "y ~ x + (0 + x | g)",
  "y ~ x + a + (1 | g:k)", "y ~ a * b * x + (1 | g)", "y ~ (a + b) / x + (1 | g)", "y ~ a:x + b:x + a + (1 | g)",
  "y ~ z * factor(dose) - z + (1 | g)", "y ~ log(x + 1):a + (1 | g)", "y ~ I(2 * (x + 1)^2) + I(-x) + (1 | g)",
  "y ~ ordered(dose) + (1 | g)"
)
numbers <- function(v) paste0("[", paste(ifelse(is.na(v), "null", sprintf("%.15g", v)), collapse = ", "), "]")
texts <- function(v) paste0("[", paste(sprintf('"%s"', gsub("`", "", v)), collapse = ", "), "]")
tables <- function(m) {
  found <- c()
  for (type in c("I", "II", "III")) {
    a <- suppressMessages(suppressWarnings(as.data.frame(anova(m, type = type))))
    if (nrow(a)) found <- c(found, sprintf('"%s": {"terms": %s, "F": %s, "df1": %s, "df2": %s}', type, texts(rownames(a)),
      numbers(a[["F value"]]), numbers(a$NumDF), numbers(a$DenDF)))
  }
  paste0("{", paste(found, collapse = ", "), "}")
}
answer <- function(f) {
  control <- lmerControl(optimizer = "nloptwrap", optCtrl = list(xtol_abs = 1e-12, ftol_abs = 1e-12))
  m <- suppressMessages(suppressWarnings(lmer(as.formula(f), d, control = control)))
  X <- getME(m, "X")
  sprintf('{"formula": "%s", "names": %s, "sums": %s, "criterion": %.12g, "anova": %s}', f, texts(colnames(X)),
    numbers(colSums(X * seq_len(nrow(X)) / nrow(X))), REMLcrit(m), tables(m))
}
means <- function(f, specs, weights) {
  m <- lmer(as.formula(f), d)
  e <- emmeans(m, as.formula(specs), weights = weights, lmer.df = "kenward-roger")
  s <- as.data.frame(summary(e)); p <- as.data.frame(summary(pairs(e), adjust = "tukey"))
  sprintf('{"formula": "%s", "specs": "%s", "weights": "%s", "mean": %s, "se": %s, "df": %s, "contrast": %s, "p": %s}', f, specs,
    weights, numbers(s$emmean), numbers(s$SE), numbers(s$df), texts(p$contrast), numbers(p$p.value))
}
models <- sapply(formulas, answer)
grids <- c(means("y ~ a * b + x + (1 | g)", "~ a", "equal"), means("y ~ a * b + x + (1 | g)", "~ a", "proportional"),
  means("y ~ a * b + log(x) + (1 | g)", "~ a | b", "equal"), means("y ~ a + b + factor(dose) + (1 | g)", "~ a * b", "proportional"),
  means("y ~ a * poly(x, 2) + b + (1 | g)", "~ b", "proportional"))
out <- file("lmer.json", "w", encoding = "UTF-8")
writeLines(paste0('{"models": [\n', paste(models, collapse = ",\n"), '\n], "means": [\n', paste(grids, collapse = ",\n"), "\n]}"), out, useBytes = TRUE)
close(out)
