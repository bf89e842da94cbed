#include "http/multipart.h"

#include "base/strings.h"

#include <ctype.h>
#include <string.h>
#include <strings.h>

static const char *skip_blanks(const char *p)
{
    return p + strspn(p, " \t");
}

/* A parameter's value, a token or a quoted string (RFC 9110, 5.6.6). Returns where it ends, NULL if
 * it is malformed or does not fit. */
static const char *read_value(const char *p, char *out, size_t size)
{
    size_t n = 0;
    bool quoted = *p == '"';

    for (p += quoted; *p != '\0' && (quoted ? *p != '"' : strchr("; \t", *p) == NULL); p++) {
        if (quoted && *p == '\\' && (p[1] == '"' || p[1] == '\\'))
            p++;
        if (n + 1 >= size)
            return NULL;
        out[n++] = *p;
    }
    if (quoted && *p++ != '"')
        return NULL;
    out[n] = '\0';
    return p;
}

/* Walk "; name=value" parameters; the value of `wanted` goes to out, at most once. Returns 1 when
 * it was found, 0 when not, -1 when the text is malformed. Other values may be long, and are
 * skipped. */
static int find_parameter(const char *p, const char *wanted, char *out, size_t size)
{
    char scratch[MULTIPART_HEADERS_MAX];
    int found = 0;

    for (p = skip_blanks(p); *p == ';'; p = skip_blanks(p)) {
        p = skip_blanks(p + 1);
        size_t name_len = strcspn(p, "=; \t\"");
        bool is_wanted = name_len == strlen(wanted) && strncasecmp(p, wanted, name_len) == 0;
        p += name_len;
        if (*p != '=' && name_len == 0 && *p == '\0')
            break; /* a trailing semicolon does no harm */
        if (*p != '=' || (is_wanted && found))
            return -1;
        p = read_value(p + 1, is_wanted ? out : scratch, is_wanted ? size : sizeof(scratch));
        if (p == NULL)
            return -1;
        found |= is_wanted;
    }
    return *p == '\0' ? found : -1;
}

bool multipart_init(struct multipart *m, const char *content_type, struct error *err)
{
    static const char allowed[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
                                  "'()+_,-./:=? ";
    char boundary[MULTIPART_BOUNDARY_MAX + 1] = "";

    *m = (struct multipart){.state = MULTIPART_PREAMBLE};
    int found = find_parameter(content_type + strcspn(content_type, ";"), "boundary", boundary,
                               sizeof(boundary));
    size_t len = strlen(boundary);
    if (found != 1 || len == 0 || strspn(boundary, allowed) != len || boundary[len - 1] == ' ')
        return error_set(err, ERROR_BAD_REQUEST,
                         "Content-Type: multipart/form-data without a valid boundary");
    m->delimiter_len = (size_t)snprintf(m->delimiter, sizeof(m->delimiter), "\r\n--%s", boundary);
    m->matched = 2; /* the first delimiter may open the stream: as if a line had just ended */
    return true;
}

static bool begin_part(struct multipart *m, struct error *err)
{
    char disposition[MULTIPART_HEADERS_MAX] = "";
    char filename[MULTIPART_HEADERS_MAX];

    if (m->part_count == MULTIPART_PARTS_MAX)
        return error_set(err, ERROR_BAD_REQUEST, "multipart: more than %d parts",
                         MULTIPART_PARTS_MAX);
    m->headers[m->header_len] = '\0';
    if (strlen(m->headers) != m->header_len)
        return error_set(err, ERROR_BAD_REQUEST, "multipart: a NUL in a part's headers");
    char *save = NULL;
    for (char *line = strtok_r(m->headers, "\r\n", &save); line != NULL;
         line = strtok_r(NULL, "\r\n", &save)) {
        if (strncasecmp(line, "Content-Disposition:", 20) == 0)
            snprintf(disposition, sizeof(disposition), "%s", skip_blanks(line + 20));
        if (strncasecmp(line, "Content-Transfer-Encoding:", 26) == 0 &&
            strcasecmp(skip_blanks(line + 26), "binary") != 0 &&
            strcasecmp(skip_blanks(line + 26), "8bit") != 0 &&
            strcasecmp(skip_blanks(line + 26), "7bit") != 0)
            return error_set(err, ERROR_BAD_REQUEST,
                             "multipart: Content-Transfer-Encoding is not understood");
    }
    struct multipart_part *part = &m->parts[m->part_count];
    const char *parameters = disposition + strcspn(disposition, "; \t");
    if (strncasecmp(disposition, "form-data", 9) != 0 || parameters != disposition + 9 ||
        find_parameter(parameters, "name", part->name, sizeof(part->name)) != 1)
        return error_set(err, ERROR_BAD_REQUEST,
                         "multipart: a part without `Content-Disposition: form-data; name=...`, or "
                         "with a name over %d bytes",
                         MULTIPART_NAME_MAX);
    part->is_file = find_parameter(parameters, "filename", filename, sizeof(filename)) == 1 ||
                    find_parameter(parameters, "filename*", filename, sizeof(filename)) == 1;
    part->start = m->offset;
    m->part_count++;
    m->matched = 2; /* the content may be empty: the delimiter follows the blank line at once */
    m->state = MULTIPART_CONTENT;
    return true;
}

/* The delimiter is complete: whatever was open ends before it. */
static void end_part(struct multipart *m)
{
    if (m->state == MULTIPART_CONTENT) {
        struct multipart_part *part = &m->parts[m->part_count - 1];
        uint64_t end = m->offset - m->delimiter_len;
        part->end = end > part->start ? end : part->start; /* empty: the CRLF is shared */
    }
    m->state = MULTIPART_AFTER_DELIMITER;
    m->header_len = 0;
}

/* Look for the delimiter. It begins with a CR and has no other, so that after a mismatch only the
 * byte at hand can begin a new match. Returns how many bytes were used. */
static size_t scan(struct multipart *m, const uint8_t *p, size_t len)
{
    size_t used = 0;

    while (used < len) {
        if (m->matched == 0) {
            const uint8_t *cr = memchr(p + used, '\r', len - used);
            size_t skipped = cr != NULL ? (size_t)(cr - p) - used : len - used;
            used += skipped;
            m->offset += skipped;
            if (cr == NULL)
                break;
        }
        uint8_t c = p[used++];
        m->offset++;
        if (c == (uint8_t)m->delimiter[m->matched])
            m->matched++;
        else
            m->matched = c == '\r';
        if (m->matched == m->delimiter_len) {
            end_part(m);
            break;
        }
    }
    return used;
}

/* After a delimiter: "--" ends the message, otherwise blanks and a line end, then headers. The
 * bytes are kept in m->headers until it is clear. */
static bool after_delimiter(struct multipart *m, char c, struct error *err)
{
    m->headers[m->header_len++] = c;
    if (m->header_len == 2 && memcmp(m->headers, "--", 2) == 0) {
        m->state = MULTIPART_EPILOGUE;
        return true;
    }
    bool dash = m->headers[0] == '-';
    if (!dash && m->header_len >= 2 && m->headers[m->header_len - 2] == '\r' && c == '\n') {
        m->state = MULTIPART_HEADERS;
        m->header_len = 0;
        return true;
    }
    if (m->header_len < MULTIPART_BOUNDARY_MAX &&
        (dash ? m->header_len == 1 : c == '\r' || c == ' ' || c == '\t'))
        return true;
    return error_set(err, ERROR_BAD_REQUEST,
                     "multipart: a delimiter is not followed by a new line");
}

static bool header_byte(struct multipart *m, char c, struct error *err)
{
    if (m->header_len == MULTIPART_HEADERS_MAX)
        return error_set(err, ERROR_BAD_REQUEST, "multipart: over %d bytes of headers in a part",
                         MULTIPART_HEADERS_MAX);
    m->headers[m->header_len++] = c;
    bool empty = m->header_len == 2 && memcmp(m->headers, "\r\n", 2) == 0;
    bool blank_line =
        m->header_len >= 4 && memcmp(m->headers + m->header_len - 4, "\r\n\r\n", 4) == 0;
    return empty || blank_line ? begin_part(m, err) : true;
}

bool multipart_feed(struct multipart *m, struct bytes chunk, struct error *err)
{
    size_t i = 0;

    while (i < chunk.len) {
        if (m->state == MULTIPART_PREAMBLE || m->state == MULTIPART_CONTENT) {
            i += scan(m, chunk.data + i, chunk.len - i);
            continue;
        }
        if (m->state == MULTIPART_EPILOGUE) {
            m->offset += chunk.len - i;
            return true;
        }
        m->offset++;
        char c = (char)chunk.data[i++];
        if (!(m->state == MULTIPART_HEADERS ? header_byte(m, c, err) : after_delimiter(m, c, err)))
            return false;
    }
    return true;
}

bool multipart_finish(const struct multipart *m, struct error *err)
{
    if (m->state != MULTIPART_EPILOGUE)
        return error_set(err, ERROR_BAD_REQUEST,
                         "multipart: the body ends before its last delimiter");
    return true;
}
