# The R side of the R kernel: an endless loop that runs what kernelgate.kernels.r sends. kernel.R starts it.
#
# Descriptors 1 and 2 are pipes the front reads, so nothing here captures output: cat(), child processes and
# native code all write there themselves. What is more than text (values, figures, errors, questions) goes
# as a frame, `KIND LENGTH LENGTH...;` and that many bytes, to descriptor 234. Requests come on 235: ten digits,
# then as many bytes, fields parted by NUL.
#
# Only packages every R has loaded anyway are used for a plain cell. IRkernel, IRdisplay, repr and jsonlite are
# loaded when something needs them: together they take longer than R itself to start.

function() {
  here <- environment()
  kg <- new.env()
  requests <- file("/dev/fd/235", "rb", raw = TRUE)
  frames <- file("/dev/fd/234", "wb", raw = TRUE)
  flag <- "/dev/fd/236"
  # The contract's limit of a table, and the largest vector picture worth a second copy of a figure.
  max_rows <- 10000L
  svg_limit_bytes <- 256 * 1024
  kg$allow_stdin <- FALSE
  kg$device <- 0L

  # -- wire ------------------------------------------------------------------------------------------------

  bytes <- function(x) {
    if (is.raw(x)) return(x)
    x <- if (length(x)) paste(enc2utf8(as.character(x)), collapse = "\n") else ""
    charToRaw(x)
  }

  frame <- function(kind, ...) suspendInterrupts({
    fields <- unlist(lapply(list(...), function(item) if (is.list(item)) lapply(item, bytes) else list(bytes(item))), recursive = FALSE)
    head <- paste(c(kind, format(lengths(fields), scientific = FALSE, trim = TRUE)), collapse = " ")
    writeBin(c(charToRaw(head), as.raw(0x3b), unlist(fields)), frames)
    flush(frames)
  })

  # What R and its children write after a frame must not overtake it: wait until the front has seen it.
  frame_seen <- function(...) {
    frame(...)
    receive()
    invisible()
  }

  receive <- function() suspendInterrupts({
    size <- readBin(requests, "raw", 10L)
    # The front is gone: quit() removes the session's temporary directory.
    if (length(size) < 10L) quit("no")
    body <- readBin(requests, "raw", as.integer(rawToChar(size)))
    ends <- c(which(body == as.raw(0L)), length(body) + 1L)
    starts <- c(1L, ends[-length(ends)] + 1L)
    fields <- mapply(function(from, to) rawToChar(body[seq_len(to - from) + from - 1L]), starts, ends)
    Encoding(fields) <- "UTF-8"
    fields
  })

  json <- function(x, ...) as.character(jsonlite::toJSON(x, null = "null", na = "null", digits = NA, force = TRUE, ...))

  # -- what a value looks like -------------------------------------------------------------------------------

  printed <- function(x) {
    sunk <- rawConnection(raw(0L), "wb")
    depth <- sink.number()
    on.exit({
      while (sink.number() > depth) sink()
      close(sunk)
    })
    sink(sunk)
    if (isS4(x)) methods::show(x) else print(x)
    while (sink.number() > depth) sink()
    text <- rawToChar(rawConnectionValue(sunk))
    Encoding(text) <- "UTF-8"
    sub("\n$", "", text)
  }

  column <- function(x) {
    if (is.factor(x) || is.complex(x) || inherits(x, "integer64")) x <- as.character(x)
    else if (inherits(x, "Date")) x <- ifelse(is.na(x), NA, format(x, "%Y-%m-%d"))
    else if (inherits(x, "POSIXt")) x <- ifelse(is.na(x), NA, iso_time(x))
    else if (is.list(x)) x <- vapply(x, function(item) if (length(item) == 1L && is.atomic(item)) as.character(item) else json(item, auto_unbox = TRUE), "")
    else if (is.object(x)) x <- if (inherits(x, c("AsIs", "difftime"))) as.vector(unclass(x)) else as.character(x)
    if (is.raw(x)) as.integer(x) else unname(as.vector(x))
  }

  iso_time <- function(x) {
    x <- as.POSIXct(x)
    zone <- format(x, "%z")
    zone <- ifelse(zone == "+0000", "Z", paste0(substr(zone, 1L, 3L), ":", substr(zone, 4L, 5L)))
    fraction <- any(as.numeric(x) %% 1 != 0, na.rm = TRUE)
    paste0(format(x, if (fraction) "%Y-%m-%dT%H:%M:%OS3" else "%Y-%m-%dT%H:%M:%S"), zone)
  }

  table_json <- function(x) {
    if (!is.data.frame(x)) x <- as.data.frame(unclass(x), stringsAsFactors = FALSE)
    x <- x[seq_len(min(nrow(x), max_rows)), , drop = FALSE]
    columns <- lapply(seq_along(x), function(at) I(column(.subset2(x, at))))
    json(stats::setNames(columns, make.unique(enc2utf8(as.character(names(x))))))
  }

  escape <- function(x) {
    x <- gsub("&", "&amp;", x, fixed = TRUE)
    gsub(">", "&gt;", gsub("<", "&lt;", x, fixed = TRUE), fixed = TRUE)
  }

  # The options are repr's, its way to leave out the middle is not: heads are what people look at.
  table_html <- function(x) {
    rows <- min(nrow(x), getOption("repr.matrix.max.rows"))
    cols <- min(ncol(x), getOption("repr.matrix.max.cols"))
    size <- sprintf("%s: %d \u00d7 %d", class(x)[[1L]], nrow(x), ncol(x))
    named <- !is.null(rownames(x)) && !(is.data.frame(x) && .row_names_info(x) < 0L)
    names <- if (is.null(colnames(x))) rep("", cols) else colnames(x)[seq_len(cols)]
    part <- x[seq_len(rows), seq_len(cols), drop = FALSE]
    cells <- lapply(seq_len(cols), function(at) {
      values <- if (is.data.frame(part)) .subset2(part, at) else part[, at]
      text <- if (is.character(values)) ifelse(is.na(values), "NA", values)
        else if (is.list(values)) vapply(values, function(item) paste(format(item), collapse = ", "), "")
        else if (length(dim(values)) == 2L) apply(format(values), 1L, paste, collapse = ", ")
        else trimws(format(values, trim = TRUE))
      paste0("<td>", escape(text), "</td>")
    })
    if (named) cells <- c(list(paste0("<th scope=row>", escape(rownames(part)), "</th>")), cells)
    head <- paste0(if (named) "<th></th>", paste0("<th scope=col>", escape(names), "</th>", collapse = ""))
    body <- if (rows > 0L && length(cells)) paste0("<tr>", do.call(paste0, cells), "</tr>", collapse = "\n") else ""
    sprintf("<table class=\"dataframe\">\n<caption>%s</caption>\n<thead><tr>%s</tr></thead>\n<tbody>\n%s\n</tbody>\n</table>", escape(size), head, body)
  }

  is_plain <- function(x, depth = 8L) {
    if (is.null(x) || is.factor(x) || inherits(x, c("Date", "POSIXt")) || (is.atomic(x) && !is.object(x) && !is.complex(x))) return(TRUE)
    is.list(x) && depth > 0L && (!is.object(x) || is.data.frame(x)) && all(vapply(x, is_plain, NA, depth - 1L))
  }

  # Classes that repr knows and whose print() would open a browser or a pager, and classes of the user's own.
  by_repr <- function(x) {
    if (!is.object(x)) return(FALSE)
    classes <- class(x)
    any(classes %in% c("htmlwidget", "shiny.tag", "shiny.tag.list", "help_files_with_topic", "packageIQR", "vegalite", "sf", "sfc")) ||
      any(vapply(paste0("repr_", rep(c("html", "markdown", "latex", "svg", "png", "json", "text"), each = length(classes)), ".", classes),
        exists, NA, envir = globalenv(), mode = "function"))
  }

  # A named list from MIME type to text or raw; empty where there is nothing to show.
  bundle <- function(x) {
    if (!isTRUE(getOption("jupyter.rich_display"))) {
      text <- printed(x)
      return(if (nzchar(text)) list("text/plain" = text) else list())
    }
    if (by_repr(x)) {
      types <- setdiff(getOption("jupyter.display_mimetypes", names(repr::mime2repr)), c("application/pdf", "image/jpeg"))
      data <- IRdisplay::prepare_mimebundle(x, types, error_handler = function(e) NULL)$data
      if (is.null(data[["text/plain"]])) data[["text/plain"]] <- printed(x)
      # Help pages are bold and underlined for a terminal.
      data[["text/plain"]] <- gsub(".\b", "", data[["text/plain"]])
      return(data)
    }
    if (inherits(x, "recordedplot")) {
      send_figure(x)
      return(list())
    }
    text <- printed(x)
    if (!nzchar(text)) return(list())
    data <- list("text/plain" = text)
    more <- function(type, value) {
      # A representation that fails is left out; the text is there.
      value <- tryCatch(value, error = function(e) NULL)
      if (!is.null(value)) data[[type]] <<- value
    }
    if (is.data.frame(x) || (is.matrix(x) && is.atomic(x))) {
      more("text/html", table_html(x))
      if (is.data.frame(x) || !is.null(colnames(x))) more("application/vnd.kernelgate.data+json", table_json(x))
    } else if (inherits(x, "json")) {
      more("application/json", paste(x, collapse = "\n"))
    } else if (inherits(x, c("html", "knitr_kable")) && any(grepl("<[a-z]", x))) {
      more("text/html", paste(x, collapse = "\n"))
    } else if (is.list(x) && !is.object(x) && utils::object.size(x) < 1e6 && is_plain(x)) {
      more("application/json", json(x, auto_unbox = TRUE))
    }
    data
  }

  pairs <- function(data) unlist(lapply(names(data), function(type) list(type, bytes(data[[type]]))), recursive = FALSE)

  # -- figures -------------------------------------------------------------------------------------------------

  # As the options are when drawing begins: they may be put back before the figure is sent.
  style <- function() {
    names <- c("width", "height", "res", "pointsize", "bg", "antialias", "quality", "family")
    c(stats::setNames(lapply(paste0("repr.plot.", names), getOption), names),
      list(formats = getOption("jupyter.plot_mimetypes"), scale = getOption("jupyter.plot_scale")))
  }

  # Drawn on a device without a file, of the size and with the fonts of the pictures made from it later.
  open_device <- function(...) {
    look <- style()
    grDevices::svg("/dev/null", look$width, look$height, look$pointsize, FALSE, look$family, look$bg, "none")
    kg$device <- grDevices::dev.cur()
    kg$look <- look
    grDevices::dev.control("enable")
  }

  is_open <- function() kg$device > 1L && kg$device %in% grDevices::dev.list() && identical(names(kg$device), "svg")

  is_drawn <- function(plot) {
    calls <- vapply(plot[[1L]], function(call) {
      name <- tryCatch(call[[2L]][[1L]]$name, error = function(e) NULL)
      if (is.null(name)) "" else name
    }, "")
    if (any(!calls %in% c("", "C_par", "C_layout", "C_clip", "C_strWidth", "C_strHeight", "palette", "palette2"))) return(TRUE)
    # grid (ggplot2, lattice) keeps a list of its own: viewports, and what was drawn in them.
    any(vapply(unclass(plot), function(part) identical(attr(part, "pkgName"), "grid") && any(vapply(part[[1L]], inherits, NA, "grob")), NA))
  }

  send_figure <- function(plot, look = style()) {
    current <- grDevices::dev.cur()
    on.exit(if (current > 1L && current %in% grDevices::dev.list()) grDevices::dev.set(current))
    render <- function(open) {
      path <- tempfile("figure")
      on.exit(unlink(path))
      open(path)
      device <- grDevices::dev.cur()
      tryCatch(suppressWarnings(grDevices::replayPlot(plot)), finally = kg$dev_off(device))
      readBin(path, "raw", file.size(path))
    }
    bitmap <- function(open, ...) render(function(path)
      open(path, look$width, look$height, "in", look$pointsize, bg = look$bg, res = look$res, family = look$family, type = "cairo", antialias = look$antialias, ...))
    vector <- function(open) render(function(path) open(path, look$width, look$height, look$pointsize, FALSE, look$family, look$bg, look$antialias))
    data <- list("text/plain" = sprintf("<figure %g x %g in>", look$width, look$height))
    if ("image/png" %in% look$formats) data[["image/png"]] <- bitmap(grDevices::png)
    if ("image/jpeg" %in% look$formats) data[["image/jpeg"]] <- bitmap(grDevices::jpeg, quality = look$quality)
    if ("application/pdf" %in% look$formats) data[["application/pdf"]] <- vector(grDevices::cairo_pdf)
    if ("image/svg+xml" %in% look$formats) {
      only <- length(data) == 1L
      # What is drawn from much data makes a picture of many megabytes: do not even try.
      picture <- if (only || utils::object.size(plot) < 4 * svg_limit_bytes) vector(grDevices::svg)
      if (length(picture) && (only || length(picture) <= svg_limit_bytes)) data[["image/svg+xml"]] <- picture
    }
    pixels <- sprintf("{\"width\": %d, \"height\": %d}", as.integer(look$width * look$res / look$scale), as.integer(look$height * look$res / look$scale))
    frame_seen("display", sprintf("{\"image/png\": %s, \"image/jpeg\": %s, \"image/svg+xml\": {\"isolated\": true}}", pixels, pixels), pairs(data))
  }

  # Sends the page that is on our device, if anything was drawn on it.
  send_page <- function() {
    if (!is_open()) return(invisible())
    current <- grDevices::dev.cur()
    on.exit(if (current %in% grDevices::dev.list()) grDevices::dev.set(current))
    grDevices::dev.set(kg$device)
    plot <- grDevices::recordPlot()
    if (is_drawn(plot) && !kg$silent) send_figure(plot, kg$look)
    invisible()
  }

  close_device <- function() {
    if (!is_open()) return(invisible())
    send_page()
    kg$dev_off(kg$device)
    kg$device <- 0L
  }

  # -- standard input --------------------------------------------------------------------------------------------

  ask <- function(prompt = "") {
    if (!kg$allow_stdin) stop("standard input is not available: this execution does not allow input", call. = FALSE)
    frame("prompt", paste(prompt, collapse = ""))
    answer <- receive()
    if (answer[[1L]] == "interrupted") signalCondition(structure(class = c("interrupt", "condition"), list()))
    if (answer[[1L]] == "end") return(NULL)
    answer[[2L]]
  }

  is_stdin <- function(con) {
    if (is.character(con)) return(identical(con, "stdin") || identical(con, ""))
    inherits(con, "connection") && (as.integer(con) == 0L || identical(summary(con)$description, "stdin"))
  }

  # Of file("stdin") others than readLines() read in C, with a buffer: the front sees them sleep, and asks.
  is_console <- function(con) is.character(con) && con %in% c("", "stdin") || inherits(con, "connection") && as.integer(con) == 0L

  read_lines <- function(n) {
    lines <- character()
    while (n < 0L || length(lines) < n) {
      line <- ask()
      if (is.null(line)) break
      lines <- c(lines, line)
    }
    lines
  }

  scan_lines <- function(n) {
    lines <- character()
    repeat {
      line <- ask()
      if (is.null(line) || !nzchar(line)) break
      lines <- c(lines, line)
      if (n > 0L && length(unlist(strsplit(trimws(lines), "[[:space:]]+"))) >= n) break
    }
    lines
  }

  # -- cells -------------------------------------------------------------------------------------------------------

  call_text <- function(call) {
    text <- paste(trimws(deparse(call, nlines = 3L)), collapse = " ")
    if (nchar(text) > 200L) paste0(substr(text, 1L, 200L), "...") else text
  }

  head_text <- function(condition, word) {
    call <- conditionCall(condition)
    message <- conditionMessage(condition)
    if (is.null(call) || identical(call[[1L]], quote(eval))) return(paste0(word, ": ", message))
    paste0(word, " in ", call_text(call), " : ", message)
  }

  # The calls of the session's code: below are evaluate() and its wrappers, above the handlers of conditions.
  user_calls <- function(calls, functions) {
    start <- 0L
    for (at in seq_along(functions)) if (identical(functions[[at]], kg$evaluate)) start <- at
    if (start == 0L) return(list())
    names <- vapply(calls, function(call) if (is.symbol(call[[1L]])) as.character(call[[1L]]) else "", "")
    start <- start + 1L
    for (name in c("withCallingHandlers", "withVisible", "eval", "eval")) if (start <= length(names) && names[[start]] == name) start <- start + 1L
    ours <- vapply(functions, function(f) identical(environment(f), here), NA)
    asking <- vapply(functions, function(f) identical(f, ask) || identical(f, is_console), NA)
    end <- which((names %in% c(".handleSimpleError", "h", ".signalSimpleWarning") | asking) & seq_along(names) >= start)
    end <- if (length(end)) end[[1L]] - 1L else length(calls)
    at <- seq_along(calls)
    calls[at >= start & at <= end & !ours]
  }

  on_error <- function(condition) {
    # A handler of an error of the handler's would go round in circles; of a full stack there is little to say.
    calls <- tryCatch({
      functions <- lapply(seq_len(sys.nframe() - 1L), sys.function)
      user_calls(sys.calls()[seq_along(functions)], functions)
    }, error = function(e) list())
    if (length(calls) > 60L) calls <- c(calls[1:30], list(quote(...)), calls[(length(calls) - 29L):length(calls)])
    lines <- vapply(seq_along(calls), function(at) {
      reference <- attr(calls[[at]], "srcref")
      place <- if (!is.null(reference) && identical(attr(reference, "srcfile")$filename, "cell")) sprintf("  # line %d", reference[[1L]]) else ""
      paste0(at, ". ", call_text(calls[[at]]), place)
    }, "")
    kg$error <- list(class(condition)[[1L]], conditionMessage(condition),
      c(head_text(condition, "Error"), if (length(lines)) c("Traceback:", lines)))
  }

  on_warning <- function(condition) {
    level <- getOption("warn")
    # From 2 on R makes an error of it, below 0 nothing.
    if (level >= 2L) return()
    if (level >= 0L) {
      call <- conditionCall(condition)
      if (identical(call[[1L]], quote(eval))) call <- NULL
      last <- stats::setNames(list(call), conditionMessage(condition))
      kg$warnings <- c(utils::tail(kg$warnings, 49L), last)
      cat(paste0(head_text(condition, "Warning"), "\n"), file = stderr())
    }
    tryInvokeRestart("muffleWarning")
  }

  kg$evaluate <- function(expression) {
    withCallingHandlers(withVisible(eval(expression, globalenv())), error = on_error, warning = on_warning)
  }

  # Calls that never have a visible value: a value before them is the last one, and need not wait for the end.
  invisible_calls <- c("<-", "<<-", "=", "for", "while", "repeat", "cat", "message", "invisible", "library", "rm", "print",
    "set.seed", "suppressWarnings", "Sys.sleep", "options", "warning", "flush.console", "write", "writeLines", "function")

  is_statement <- function(expression) is.call(expression) && is.symbol(expression[[1L]]) && as.character(expression[[1L]]) %in% invisible_calls

  run <- function(expressions) {
    statement <- vapply(expressions, is_statement, NA)
    count <- length(expressions)
    for (at in seq_len(count)) {
      got <- kg$evaluate(expressions[[at]])
      if (!got$visible) next
      kg$keep(got$value)
      if (kg$silent) next
      # print() of the value is the session's code as well, and may fail.
      data <- kg$represent(got$value)
      if (at == count) send_page()
      if (length(data)) frame_seen("value", if (all(statement[seq_len(count) > at])) "last" else "held", pairs(data))
      if (at == count && kg$device) { kg$dev_off(kg$device); kg$device <- 0L }
    }
  }

  kg$represent <- function(value) kg$evaluate(as.call(list(bundle, as.call(list(as.name("quote"), value)))))$value

  # A SIGINT that came when the cell before had just ended must not hit this one.
  forget_interrupt <- function() tryCatch(allowInterrupts(Sys.sleep(0)), interrupt = function(e) NULL)

  execute <- function(code, flags, env) {
    kg$silent <- grepl("s", flags, fixed = TRUE)
    kg$allow_stdin <- grepl("i", flags, fixed = TRUE)
    kg$error <- NULL
    kg$warnings <- NULL
    if (length(env)) {
      names <- env[c(TRUE, FALSE)]
      before <- Sys.getenv(names, unset = NA, names = TRUE)
      on.exit({
        if (any(!is.na(before))) do.call(Sys.setenv, as.list(before[!is.na(before)]))
        Sys.unsetenv(names[is.na(before)])
      })
      do.call(Sys.setenv, as.list(stats::setNames(env[c(FALSE, TRUE)], names)))
    }
    lines <- strsplit(code, "\n", fixed = TRUE)[[1L]]
    expressions <- tryCatch(parse(text = lines, keep.source = TRUE, srcfile = srcfilecopy("cell", lines)), error = function(e) {
      message <- sub("^<text>:|^cell:", "", conditionMessage(e))
      place <- regmatches(message, regexpr("^[0-9]+(:[0-9]+)?", message))
      said <- sub("^[0-9]+(:[0-9]+)?: ", "", strsplit(message, "\n", fixed = TRUE)[[1L]][[1L]])
      kg$error <- list("ParseError", said, paste("Error: cell:", message, sep = ""))
      NULL
    })
    if (!is.null(kg$error)) return(invisible())
    forget_interrupt()
    tryCatch(
      allowInterrupts(run(expressions)),
      error = function(e) if (is.null(kg$error)) kg$error <- list(class(e)[[1L]], conditionMessage(e), head_text(e, "Error")),
      interrupt = function(e) kg$error <- list("KeyboardInterrupt", "", "KeyboardInterrupt: the execution was interrupted")
    )
    while (sink.number("message") != 2L) sink(type = "message")
    tryCatch(close_device(), error = function(e) {
      if (is.null(kg$error)) kg$error <- list(class(e)[[1L]], conditionMessage(e), head_text(e, "Error"))
      if (is_open()) kg$dev_off(kg$device)
      kg$device <- 0L
    })
    if (length(kg$warnings)) kg$last_warnings <- kg$warnings
    invisible()
  }

  # -- questions -----------------------------------------------------------------------------------------------------

  complete <- function(code, cursor) {
    head <- substr(code, 1L, cursor)
    line <- sub("^.*\n", "", head)
    utils:::.assignLinebuffer(line)
    utils:::.assignEnd(nchar(line))
    token <- utils:::.guessTokenFromLine()
    utils:::.completeToken()
    found <- utils:::.retrieveCompletions()
    # Names no parser would read as one need backticks.
    bare <- grepl("^[`'\"]|[:$@]|[(=/]", found) | make.names(found) == found
    found[!bare] <- paste0("`", found[!bare], "`")
    frame("complete", as.character(cursor - nchar(token)), as.character(cursor), unique(found))
  }

  inspect <- function(code, cursor) {
    parts <- gregexpr("[A-Za-z.][A-Za-z0-9._]*(:::?[A-Za-z.][A-Za-z0-9._]*|[$@][A-Za-z.][A-Za-z0-9._]*)*", code)[[1L]]
    at <- which(parts <= cursor + 1L & parts + attr(parts, "match.length") > cursor)
    text <- character()
    html <- ""
    if (length(at) && parts[[1L]] > 0L) {
      token <- substr(code, parts[[at[[1L]]]], parts[[at[[1L]]]] + attr(parts, "match.length")[[at[[1L]]]] - 1L)
      # Looking is not running: only names, and parts of values, are evaluated.
      object <- tryCatch(list(eval(parse(text = token)[[1L]], globalenv())), error = function(e) NULL)
      if (!is.null(object)) text <- c(text, paste0(token, ":"), utils::capture.output(utils::str(object[[1L]])))
      name <- strsplit(token, ":::?")[[1L]]
      topic <- tryCatch(do.call(utils::help, as.list(rev(name))), error = function(e) NULL)
      if (length(topic)) {
        page <- tryCatch(utils:::.getHelpFile(as.character(topic)[[1L]]), error = function(e) NULL)
        if (!is.null(page)) {
          plain <- utils::capture.output(tools::Rd2txt(page, options = list(underline_titles = FALSE), outputEncoding = "UTF-8"))
          text <- c(text, "", gsub("_\b", "", plain))
          html <- utils::capture.output(tools::Rd2HTML(page, outputEncoding = "UTF-8"))
        }
      }
    }
    frame("inspect", text, html)
  }

  is_complete <- function(code) {
    status <- tryCatch({
      parse(text = code)
      "complete"
    }, error = function(e) if (grepl("unexpected end of input|unexpected INCOMPLETE_STRING", conditionMessage(e))) "incomplete" else "invalid")
    frame("is_complete", status)
  }

  comm <- function(kind, content) {
    manager <- IRkernel::comm_manager()
    request <- list(header = list(msg_type = kind), content = jsonlite::fromJSON(content))
    tryCatch(switch(kind,
      comm_open = manager$on_comm_open(request),
      comm_msg = manager$on_comm_msg(request),
      comm_close = manager$on_comm_close(request),
      comm_info_request = manager$on_comm_info_request(request)
    ), error = function(e) cat(head_text(e, "Error"), "\n", file = stderr()))
    frame("did")
  }

  # -- the session ---------------------------------------------------------------------------------------------------

  replace <- function(name, package, value) {
    for (where in list(asNamespace(package), as.environment(paste0("package:", package)))) {
      if (bindingIsLocked(name, where)) get("unlockBinding", baseenv())(name, where)
      assign(name, value, envir = where)
      lockBinding(name, where)
    }
  }

  before_body <- function(name, package, code) {
    changed <- get(name, asNamespace(package))
    body(changed) <- call("{", code, body(changed))
    replace(name, package, changed)
  }

  base <- baseenv()
  get("unlockBinding", base)(".Last.value", base)
  kg$keep <- function(value) assign(".Last.value", value, envir = base)
  kg$dev_off <- grDevices::dev.off
  ask_line <- function(prompt) {
    answer <- ask(prompt)
    if (is.null(answer)) "" else answer
  }
  before_body("readline", "base", bquote(return(.(ask_line)(prompt))))
  before_body("readLines", "base", bquote(if (.(is_stdin)(con)) return(.(read_lines)(n))))
  before_body("scan", "base", bquote(if (missing(text) && .(is_console)(file)) text <- .(scan_lines)(max(n, nmax))))
  # R does not see a SIGINT while a command of system() runs; the front leaves a mark for it.
  interrupted <- function() if (isTRUE(file.size(flag) > 0)) signalCondition(structure(class = c("interrupt", "condition"), list()))
  before_body("warnings", "base", bquote(return(if (length(.(kg)$last_warnings)) structure(.(kg)$last_warnings, class = "warnings"))))
  before_body("system", "base", bquote(on.exit(.(interrupted)())))
  before_body("system2", "base", bquote(on.exit(.(interrupted)())))
  before_body("dev.off", "grDevices", bquote(if (.(is_open)() && identical(as.integer(which), as.integer(.(kg)$device))) .(send_page)()))

  # A page is over when the next one begins; par(mfrow = ) puts several plots on one.
  setHook("before.plot.new", function(...) if (is_open() && grDevices::dev.cur() == kg$device && graphics::par("page")) send_page())
  setHook("before.grid.newpage", function(...) if (is_open() && grDevices::dev.cur() == kg$device) send_page())

  send_response <- function(kind, parent, socket, content) frame("message", kind, socket, json(content, auto_unbox = TRUE))
  setHook(packageEvent("IRkernel", "onLoad"), function(...) {
    internal <- asNamespace("IRkernel")
    assign("comm_manager", internal$CommManager$new(send_response = send_response), envir = internal$runtime_env)
  })

  options(
    device = open_device, keep.source = TRUE, browser = function(url) cat("See", url, "\n"), pager = "cat", menu.graphics = FALSE,
    jupyter.rich_display = TRUE, jupyter.in_kernel = TRUE, jupyter.plot_scale = 2,
    jupyter.plot_mimetypes = c("text/plain", "image/png", "image/svg+xml"),
    jupyter.base_display_func = function(data, metadata = NULL) {
      frame_seen("display", if (length(metadata)) json(metadata, auto_unbox = TRUE) else "{}", pairs(data))
      invisible(TRUE)
    },
    jupyter.clear_output_func = function(wait = TRUE) frame_seen("clear", if (isTRUE(wait)) "true" else "false"),
    repr.plot.width = 7, repr.plot.height = 7, repr.plot.res = 120, repr.plot.pointsize = 12, repr.plot.bg = "white",
    repr.plot.antialias = "gray", repr.plot.quality = 90, repr.plot.family = "sans",
    repr.matrix.max.rows = 60L, repr.matrix.max.cols = 20L
  )

  # display_html() and its kin without library(IRdisplay): the package is loaded at the first use.
  attached <- attach(NULL, name = "jupyter:irkernel", pos = 2L)
  for (name in c("display", "clear_output", "publish_mimebundle", paste0("display_", c("html", "markdown", "latex", "json", "svg", "png", "jpeg", "pdf", "javascript", "text")))) local({
    name <- name
    delayedAssign(name, getExportedValue("IRdisplay", name), assign.env = attached)
  })
  assign("View", function(x, title) {
    data <- bundle(x)
    if (length(data)) frame_seen("display", "{}", pairs(data))
    invisible(x)
  }, envir = attached)

  frame("ready", paste(R.version$major, R.version$minor, sep = "."), R.version.string, tempdir())
  # Suspended throughout, and allowed by a cell: a SIGINT that comes as a cell ends would end R between two requests.
  suspendInterrupts(repeat {
    request <- receive()
    tryCatch(switch(request[[1L]],
      execute = {
        execute(request[[2L]], request[[3L]], request[-(1:3)])
        if (is.null(kg$error)) frame("done") else frame("failed", kg$error)
      },
      complete = complete(request[[2L]], as.integer(request[[3L]])),
      inspect = inspect(request[[2L]], as.integer(request[[3L]])),
      is_complete = is_complete(request[[2L]]),
      comm = comm(request[[2L]], request[[3L]])
    ), error = function(e) frame("broken", conditionMessage(e)), interrupt = function(e) frame("broken", "interrupted"))
  })
}
