#include "app/settings_auth.h"

#include "base/strings.h"
#include "base/url.h"

#include <ctype.h>
#include <string.h>

static const char *text(const char *field)
{
    return field != NULL ? field : "";
}

static bool is_set(const char *name)
{
    const char *value = getenv(name);

    return value != NULL && *value != '\0';
}

/* Both or neither: an audience alone is everybody's, since anybody can get a token for it. */
static void check_pair(const char *audience_name, const char *audience, const char *email_name,
                       const char *email, struct buffer *mistakes)
{
    if ((*audience == '\0') != (*email == '\0'))
        config_mistake(mistakes, "%s, %s: set both of them or neither", audience_name, email_name);
    if (audience[strcspn(audience, ", \t")] != '\0')
        config_mistake(mistakes, "%s: one audience, without spaces or commas", audience_name);
}

static bool is_address(const char *s, size_t len)
{
    const char *at = memchr(s, '@', len);

    for (size_t i = 0; i < len; i++)
        if (isspace((unsigned char)s[i]) || s[i] == '*')
            return false;
    return at != NULL && at > s && at + 1 < s + len &&
           memchr(at + 1, '@', (size_t)(s + len - at - 1)) == NULL;
}

static bool are_addresses(const char *list)
{
    size_t count = 0;

    for (const char *p = list + strspn(list, ", "); *p != '\0'; p += strspn(p, ", ")) {
        size_t len = strcspn(p, ", ");
        if (!is_address(p, len))
            return false;
        count++;
        p += len;
    }
    return count > 0;
}

static void check_issuer(const struct settings *s, struct buffer *mistakes)
{
    const char *issuer = text(s->oidc_issuer), *keys = text(s->oidc_jwks_url);

    if (*issuer != '\0' && strcmp(issuer, "accounts.google.com") != 0 &&
        !string_starts_with(issuer, "https://") && !string_starts_with(issuer, "http://"))
        config_mistake(mistakes, "OIDC_ISSUER: not an http(s):// URL");
    if (*keys != '\0' && !url_is_safe(keys))
        config_mistake(mistakes, "OIDC_JWKS_URL: not an https:// URL (http:// on loopback only)");
    if (!is_set("PUSH_AUDIENCE") && !is_set("AUTH_AUDIENCE") &&
        (is_set("OIDC_ISSUER") || is_set("OIDC_JWKS_URL")))
        config_mistake(mistakes, "OIDC_ISSUER, OIDC_JWKS_URL: authenticate nobody without "
                                 "PUSH_AUDIENCE or AUTH_AUDIENCE");
}

void settings_check_auth(const struct settings *s, struct buffer *mistakes)
{
    const char *account = text(s->push_service_account), *emails = text(s->auth_emails);

    check_pair("PUSH_AUDIENCE", text(s->push_audience), "PUSH_SERVICE_ACCOUNT", account, mistakes);
    check_pair("AUTH_AUDIENCE", text(s->auth_audience), "AUTH_EMAILS", emails, mistakes);
    if (*account != '\0' && (!is_address(account, strlen(account)) || strchr(account, ',') != NULL))
        config_mistake(mistakes, "PUSH_SERVICE_ACCOUNT: not one e-mail address");
    if (*emails != '\0' && !are_addresses(emails))
        config_mistake(mistakes, "AUTH_EMAILS: not a comma list of e-mail addresses");
    check_issuer(s, mistakes);
}
