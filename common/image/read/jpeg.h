/* Reading JPEG by libjpeg-turbo directly: what most requests are. */
#pragma once

#include "image/private.h"
#include "image/scratch_buffer.h"

/* What a JPEG says besides its pixels. */
struct jpeg_metadata {
    int orientation;      /* EXIF: 1..8 */
    struct bytes profile; /* ICC; empty without */
};

/* From segment to segment of a file, over what stands between them and over compressed data, as
 * libjpeg goes. */
struct jpeg_walk {
    struct bytes data;
    size_t pos; /* begins at 2, behind SOI */
    bool ones;  /* passed 24 bits of ones or more: no code has as many, numbers seldom */
};
/* The next marker, and what its segment holds (EOI and SOI hold nothing); -1 when there is none, or
 * the segment does not end within the data. */
int jpeg_walk_next(struct jpeg_walk *w, struct bytes *ret);

/* Of the EXIF data behind its "Exif" header: 1..8, and 1 for anything broken. */
int exif_orientation(struct bytes tiff);

/* Reads the segments before the first scan of a file that jpeg_header_read has passed. `scratch`
 * gets the profile when the file has it in pieces; otherwise it is a view of the file. Metadata
 * that is broken counts as none; only memory can fail (ERROR_OVERLOADED). */
bool jpeg_metadata_read(struct bytes data, struct scratch_buffer *scratch,
                        struct jpeg_metadata *ret, struct error *err) NODISCARD;

/* Whether jpeg_fit takes it: grey, YCbCr and RGB. The rest (CMYK, YCCK) goes through libvips. */
bool jpeg_fits(const struct image_header *header);

/* 1, 2, 4 or 8, at most `spare`: the smaller inverse DCTs, good box filters, that libjpeg-turbo has
 * vector code for. */
int jpeg_scale(int spare);

/* As image_fit, for a JPEG whose header has been checked. The picture is in the scratch. */
bool jpeg_fit(struct image_scratch *scratch, const struct fit_request *request,
              const struct image_header *header, struct picture *ret, struct error *err) NODISCARD;

/* The whole picture in memory, its sides divided by the denominator (1, 2, 4, 8) and rounded up:
 * grey, RGB or CMYK, with its profile. Errors as jpeg_fit. */
bool jpeg_load(const struct image_input *input, const struct image_header *header, int denominator,
               struct bytes profile, VipsImage **ret, struct error *err) NODISCARD;
