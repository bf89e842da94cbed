/* Colours by code points (ITU-T H.273, "CICP"): what a PNG's cICP chunk and HEIF's `nclx` say. */
#pragma once

#include "base/bytes.h"

struct cicp {
    int primaries, transfer; /* 0: nothing is said */
    bool narrow;             /* black is 16, white 235 of 255 */
};

/* A PNG's cICP chunk; all zero without one. */
struct cicp png_cicp_read(struct bytes data);

/* Whether such pixels differ from sRGB. Those of unknown or unspecified colours do not. */
bool cicp_differs(const struct cicp *c);

/* An ICC profile for them, grey or RGB. Bright light (PQ, HLG) is mapped to what a display of
 * ordinary brightness shows. *ret is the caller's. */
bool cicp_profile(const struct cicp *c, bool grey, struct buffer *ret, struct error *err) NODISCARD;
