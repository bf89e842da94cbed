/* XML replies of object storage, read with Expat: elements and their text, no attributes; document
 * type declarations (and so entities) are refused. Private to common/store. */
#pragma once

#include "base/bytes.h"

/* Called at the end of each element with its path ("ListBucketResult/Contents/Key") and the text
 * directly in it, at most 8 KiB. False stops the reading (with *err set, or not an error). */
typedef bool (*xml_element_fn)(void *ctx, const char *path, const char *text, struct error *err);

/* True if the whole document was read. ERROR_UNAVAILABLE: it is not XML of moderate depth;
 * *err is untouched when `fn` stopped without an error. */
bool xml_read(struct bytes document, xml_element_fn fn, void *ctx, struct error *err) NODISCARD;
