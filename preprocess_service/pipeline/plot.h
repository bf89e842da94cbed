/* The timeline as a picture, drawn by cairo, which is loaded when it is first needed: linked, it
 * would bring 19 libraries to every start. Thread-safe. CPU work: for a worker. */
#pragma once

#include "timeline.h"

enum plot_format { PLOT_PNG, PLOT_SVG };

/* Appended to out. ERROR_INTERNAL: there is no cairo; ERROR_TOO_LARGE, ERROR_OVERLOADED. */
bool plot_draw(const struct timeline_view *view, enum plot_format format, struct buffer *out,
               struct error *err) NODISCARD;
