# Writes statistics.json: inputs, and what R (base packages and boot) makes of them.
#
#     Rscript tests/oracles/statistics.R tests/oracles/statistics.json

json <- function(x) {
  if (is.list(x))
    return(paste0("{", paste0("\"", names(x), "\": ", sapply(x, json), collapse = ", "), "}"))
  if (is.matrix(x))
    return(paste0("[", paste(apply(x, 1, function(row) json(as.vector(row))), collapse = ", "), "]"))
  if (is.character(x)) text <- paste0("\"", x, "\"")
  else text <- ifelse(is.na(x), "null", formatC(x, digits = 15, format = "g"))
  if (length(x) == 1) text else paste0("[", paste(text, collapse = ", "), "]")
}

z <- 1.96
level <- 2 * pnorm(z) - 1
set.seed(20211)
out <- list(made_with = R.version.string)

x <- round(rbeta(60, 4, 2), 3)
bca <- function(x, seed) {
  set.seed(seed)
  b <- boot::boot(x, function(d, i) mean(d[i]), R = 20000)
  as.vector(boot::boot.ci(b, conf = level, type = "bca")$bca[4:5])
}
out$summary <- list(
  x = x, mean = mean(x), sd = sd(x), quartiles = as.vector(quantile(x, c(.25, .5, .75))),
  bca = bca(x, 1)
)

counts <- rbind(c(0, 25), c(17, 40), c(459, 459), c(451, 459), c(3, 4))
out$rate <- list(
  counts = counts,
  wilson = t(apply(counts, 1, function(r)
    as.vector(suppressWarnings(prop.test(r[1], r[2], conf.level = level, correct = FALSE)$conf.int))))
)

# Spearman's rho is Pearson's r of the ranks, whose interval cor.test makes by Fisher's z.
ranks <- cor.test(rank(mtcars$mpg), rank(mtcars$hp), conf.level = level)
out$spearman <- list(
  x = mtcars$mpg, y = mtcars$hp,
  rho = as.vector(cor(mtcars$mpg, mtcars$hp, method = "spearman")),
  p = cor.test(mtcars$mpg, mtcars$hp, method = "spearman", exact = FALSE)$p.value,
  interval = as.vector(ranks$conf.int)
)

f <- summary(aov(weight ~ group, PlantGrowth))[[1]]
out$anova <- list(
  control = PlantGrowth$weight[PlantGrowth$group == "ctrl"],
  first = PlantGrowth$weight[PlantGrowth$group == "trt1"],
  second = PlantGrowth$weight[PlantGrowth$group == "trt2"],
  statistic = f[["F value"]][1], p = f[["Pr(>F)"]][1]
)

hair <- unclass(apply(HairEyeColor, c(1, 2), sum))
dimnames(hair) <- NULL
two <- rbind(c(739, 256), c(651, 203))  # sex, training and testing, Table 1 of the paper
out$chi_square <- list(
  hair = hair, hair_statistic = as.vector(chisq.test(hair)$statistic), hair_p = chisq.test(hair)$p.value,
  two = two, two_statistic = as.vector(chisq.test(two)$statistic), two_p = chisq.test(two)$p.value
)

few <- round(rnorm(12, .7, .1), 4); few_other <- round(few + rnorm(12, .03, .05), 4)
many <- round(rbeta(80, 4, 2), 2); many_other <- pmin(1, round(many + rnorm(80, .01, .05), 2))
out$wilcoxon <- list(
  few = few, few_other = few_other, few_p = wilcox.test(few, few_other, paired = TRUE)$p.value,
  many = many, many_other = many_other,
  # R too takes differences for tied only where their bits are, unless it is told to round.
  many_p = wilcox.test(
    many, many_other, paired = TRUE, exact = FALSE, correct = FALSE, digits.rank = 7
  )$p.value
)

out$mcnemar <- list(only_first = 3, only_second = 12, p = binom.test(3, 15)$p.value)

p <- c(.01, .04, .03, .005, .2, .04)
out$holm <- list(p = p, holm = p.adjust(p, "holm"))

# Peak flow of 17 subjects by two meters, l/min: Bland and Altman 1986, Table 1.
wright <- c(494, 395, 516, 434, 476, 557, 413, 442, 650, 433, 417, 656, 267, 478, 178, 423, 427)
mini <- c(512, 430, 520, 428, 500, 600, 364, 380, 658, 445, 432, 626, 260, 477, 259, 350, 451)
d <- wright - mini
half <- qt((1 + level) / 2, 16) * sd(d) / sqrt(17)
out$bland_altman <- list(
  reference = mini, measured = wright, sd = sd(d),
  bias = c(mean(d), as.vector(t.test(d, conf.level = level)$conf.int)),
  lower = mean(d) - z * sd(d) + c(0, -1, 1) * sqrt(3) * half,
  upper = mean(d) + z * sd(d) + c(0, -1, 1) * sqrt(3) * half
)

# ICC(A,1) from the mean squares of the two-way analysis of variance of six subjects by four judges,
# Shrout and Fleiss 1979, Table 2; interval as in McGraw and Wong 1996, Table 7.
judges <- rbind(c(9, 2, 5, 8), c(6, 1, 3, 2), c(8, 4, 6, 8), c(7, 1, 2, 6), c(10, 5, 6, 9), c(6, 2, 4, 7))
icc <- function(x) {
  n <- nrow(x); k <- ncol(x)
  long <- data.frame(y = as.vector(x), s = factor(rep(1:n, k)), r = factor(rep(1:k, each = n)))
  ms <- anova(lm(y ~ s + r, long))[["Mean Sq"]]
  value <- (ms[1] - ms[3]) / (ms[1] + (k - 1) * ms[3] + k * (ms[2] - ms[3]) / n)
  a <- k * value / (n * (1 - value)); b <- 1 + k * value * (n - 1) / (n * (1 - value))
  v <- (a * ms[2] + b * ms[3])^2 / ((a * ms[2])^2 / (k - 1) + (b * ms[3])^2 / ((n - 1) * (k - 1)))
  tail <- (1 + level) / 2
  fl <- qf(tail, n - 1, v); fu <- qf(tail, v, n - 1)
  low <- n * (ms[1] - fl * ms[3]) / (fl * (k * ms[2] + (k * n - k - n) * ms[3]) + n * ms[1])
  high <- n * (fu * ms[1] - ms[3]) / (k * ms[2] + (k * n - k - n) * ms[3] + n * fu * ms[1])
  c(value, low, high)
}
ml <- round(exp(rnorm(30, 1.5, 1.5)), 2)
pair <- cbind(ml, pmax(0, round(ml * exp(rnorm(30, -.05, .2)) + rnorm(30, 0, .5), 2)))
dimnames(pair) <- NULL
out$icc <- list(judges = judges, judges_icc = icc(judges), pair = pair, pair_icc = icc(pair))

writeLines(json(out), commandArgs(trailingOnly = TRUE)[1])
