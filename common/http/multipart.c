#include "http/multipart.h"

#include "base/strings.h"

#include <string.h>
#include <strings.h>

enum { DELIMITER_SIZE = MULTIPART_BOUNDARY_MAX + 5 };

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

/* The delimiter of Content-Type's boundary: CR LF -- boundary. */
static bool read_delimiter(const char *content_type, char ret[DELIMITER_SIZE], struct error *err)
{
    static const char allowed[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
                                  "'()+_,-./:=? ";
    char boundary[MULTIPART_BOUNDARY_MAX + 1] = "";

    int found = find_parameter(content_type + strcspn(content_type, ";"), "boundary", boundary,
                               sizeof(boundary));
    size_t len = strlen(boundary);
    if (found != 1 || len == 0 || strspn(boundary, allowed) != len || boundary[len - 1] == ' ')
        return error_set(err, ERROR_BAD_REQUEST,
                         "Content-Type: multipart/form-data without a valid boundary");
    snprintf(ret, DELIMITER_SIZE, "\r\n--%s", boundary);
    return true;
}

static bool read_headers(struct bytes text, struct multipart_part *ret, struct error *err)
{
    char headers[MULTIPART_HEADERS_MAX + 1] = "", disposition[MULTIPART_HEADERS_MAX] = "";
    char filename[MULTIPART_HEADERS_MAX];

    if (memchr(text.data, '\0', text.len) != NULL)
        return error_set(err, ERROR_BAD_REQUEST, "multipart: a NUL in a part's headers");
    memcpy(headers, text.data, text.len);
    char *save = NULL;
    for (char *line = strtok_r(headers, "\r\n", &save); line != NULL;
         line = strtok_r(NULL, "\r\n", &save)) {
        if (strncasecmp(line, "Content-Disposition:", 20) == 0)
            snprintf(disposition, sizeof(disposition), "%s", skip_blanks(line + 20));
        if (strncasecmp(line, "Content-Transfer-Encoding:", 26) == 0 &&
            strcasecmp(skip_blanks(line + 26), "binary") != 0 &&
            strcasecmp(skip_blanks(line + 26), "8bit") != 0 &&
            strcasecmp(skip_blanks(line + 26), "7bit") != 0)
            return error_set(err, ERROR_BAD_REQUEST,
                             "multipart: Content-Transfer-Encoding must be binary, 8bit or 7bit");
    }
    const char *parameters = disposition + strcspn(disposition, "; \t");
    if (strncasecmp(disposition, "form-data", 9) != 0 || parameters != disposition + 9 ||
        find_parameter(parameters, "name", ret->name, sizeof(ret->name)) != 1)
        return error_set(err, ERROR_BAD_REQUEST,
                         "multipart: a part without `Content-Disposition: form-data; name=...`, or "
                         "with a name over %d bytes",
                         MULTIPART_NAME_MAX);
    ret->is_file = find_parameter(parameters, "filename", filename, sizeof(filename)) == 1 ||
                   find_parameter(parameters, "filename*", filename, sizeof(filename)) == 1;
    return true;
}

static struct bytes skip(struct bytes text, size_t n)
{
    return bytes_of(text.data + n, text.len - n);
}

static bool ends_early(struct error *err)
{
    return error_set(err, ERROR_BAD_REQUEST, "multipart: the body ends before its last delimiter");
}

/* A part, from the end of a delimiter on. *rest then begins at the CR LF of the blank line. */
static bool begin_part(struct bytes *rest, struct multipart_part *ret, struct error *err)
{
    while (rest->len > 0 && (*rest->data == ' ' || *rest->data == '\t'))
        *rest = skip(*rest, 1);
    if (rest->len >= 2 && !bytes_starts_with(*rest, "\r\n", 2))
        return error_set(err, ERROR_BAD_REQUEST,
                         "multipart: a delimiter is not followed by a new line");
    size_t most = 2 + MULTIPART_HEADERS_MAX;
    const uint8_t *blank_line =
        memmem(rest->data, rest->len < most ? rest->len : most, "\r\n\r\n", 4);
    if (blank_line == NULL)
        return rest->len < most ? ends_early(err)
                                : error_set(err, ERROR_BAD_REQUEST,
                                            "multipart: over %d bytes of headers in a part",
                                            MULTIPART_HEADERS_MAX);
    struct bytes headers = bytes_of(rest->data, (size_t)(blank_line - rest->data));
    *rest = skip(*rest, headers.len + 2);
    return read_headers(headers, ret, err);
}

bool multipart_parse(const char *content_type, struct bytes body, struct multipart *ret,
                     struct error *err)
{
    char delimiter[DELIMITER_SIZE];
    struct multipart_part *part = NULL;

    ret->part_count = 0;
    if (!read_delimiter(content_type, delimiter, err))
        return false;
    size_t len = strlen(delimiter);
    /* The first one may open the body: as if a line had just ended. */
    size_t at_start = bytes_starts_with(body, delimiter + 2, len - 2) ? 2 : 0;
    for (struct bytes rest = body;; at_start = 0) {
        const uint8_t *end =
            rest.len > 0 ? memmem(rest.data, rest.len, delimiter + at_start, len - at_start) : NULL;
        if (end == NULL)
            return ends_early(err);
        size_t before = (size_t)(end - rest.data);
        if (part != NULL) /* without content, the delimiter has the CR LF of the blank line */
            part->content = before > 0 ? bytes_of(rest.data + 2, before - 2) : bytes_of(end, 0);
        rest = skip(rest, before + len - at_start);
        if (bytes_starts_with(rest, "--", 2))
            return true;
        if (ret->part_count == MULTIPART_PARTS_MAX)
            return error_set(err, ERROR_BAD_REQUEST, "multipart: more than %d parts",
                             MULTIPART_PARTS_MAX);
        part = &ret->parts[ret->part_count++];
        if (!begin_part(&rest, part, err))
            return false;
    }
}
