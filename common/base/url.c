#include "base/url.h"

#include "base/strings.h"

#include <arpa/inet.h>
#include <string.h>
#include <strings.h>

static bool is_loopback(const char *host, size_t len)
{
    char name[64];
    struct in_addr v4;

    if (len == 0 || len >= sizeof(name))
        return false;
    memcpy(name, host, len);
    name[len] = '\0';
    return strcasecmp(name, "localhost") == 0 || strcmp(name, "[::1]") == 0 ||
           (inet_pton(AF_INET, name, &v4) == 1 && ntohl(v4.s_addr) >> 24 == 127);
}

bool url_is_safe(const char *url)
{
    bool https = string_starts_with(url, "https://");
    const char *host = url + strlen(https ? "https://" : "http://");

    if ((!https && !string_starts_with(url, "http://")) || strpbrk(url, " \t\"<>\\^`{|}#") != NULL)
        return false;
    size_t authority = strcspn(host, "/?");
    size_t len = *host == '[' ? strcspn(host, "]") + 1 : strcspn(host, ":/?");
    if (authority == 0 || len > authority || memchr(host, '@', authority) != NULL ||
        (host[len] != '\0' && strchr(":/?", host[len]) == NULL))
        return false;
    return len > 0 && (https || is_loopback(host, len));
}
