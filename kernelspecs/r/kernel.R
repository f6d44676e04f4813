# Starts the session: compiled by install.sh if this R did that, else from source, which loads R's compiler (12 MB) to run.
local({
  here <- dirname(sub("^--file=", "", grep("^--file=", commandArgs(FALSE), value = TRUE)[[1L]]))
  compiled <- file.path(here, "session.rds")
  session <- if (file.exists(compiled)) readRDS(compiled)
  if (identical(session$version, R.version.string)) session$main
  else eval(parse(file.path(here, "session.R"), keep.source = FALSE), globalenv())
})()
