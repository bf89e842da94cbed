/* Users with a name and a password: sign up, sign in, tokens. Unlike the catalogue this is not
 * derived data: it has a database of its own, or its own tables in the catalogue's PostgreSQL.
 *
 * Who signs in gets no hint whether it was the name that was wrong, in words or in time; how often
 * is limited (attempts.h). A token is void with its account, and with a new password.
 *
 * Thread-safe. Errors of every call: ERROR_UNAVAILABLE, ERROR_DEADLINE, and what is named below. */
#pragma once

#include "users/token_keys.h"

struct users;

enum { USERS_PAGE_MAX = 100, USER_FULL_NAME_MAX = 80 /* bytes */ };

struct users_options {
    const char *url;      /* see db.h */
    const char *key_file; /* see token_keys.h */
    /* Run a job of PASSWORD_MEMORY and some 0.1 s of CPU time where such work belongs, and return
     * what it returned. */
    bool (*compute)(void *ctx, bool (*job)(void *arg, struct error *err), void *arg,
                    int64_t deadline_ms, struct error *err);
    void *compute_ctx;
};

/* ERROR_CONFIG: the file has no valid keys, or the database is a newer version's. */
struct users *users_open(const struct users_options *options, struct error *err) NODISCARD;
void users_close(struct users *users);

struct user {
    char name[TOKEN_NAME_MAX + 1]; /* as it was given at sign-up */
    int64_t generation;
    int64_t created_ms;                     /* wall clock */
    char full_name[USER_FULL_NAME_MAX + 1]; /* of users_find: what people call the user, or "" */
};

/* 1 to 64 letters, digits, '.', '_' and '-', the first a letter or a digit. Not "me", which means
 * the caller. No '@': such names are accounts of OpenID Connect. ERROR_BAD_REQUEST. */
bool users_check_name(const char *name, struct error *err) NODISCARD;

/* ERROR_BAD_REQUEST: a name or password that cannot be; ERROR_CONFLICT: the name was given before,
 * in upper or lower case, to an account that may be deleted since; errors of compute. */
bool users_add(struct users *users, const char *name, const char *password, int64_t deadline_ms,
               struct user *ret, struct error *err) NODISCARD;

struct sign_in {
    const char *name, *password;
    const char *address;   /* of who tries */
    char token[TOKEN_MAX]; /* out */
    int64_t wait_ms;       /* out, of ERROR_TOO_MANY: when to try again */
};
/* ERROR_UNAUTHORIZED: not this name with this password; ERROR_TOO_MANY; errors of compute. */
bool users_sign_in(struct users *users, struct sign_in *attempt, int64_t deadline_ms,
                   struct error *err) NODISCARD;
/* A token without a password: of a user that was just found. */
bool users_token(struct users *users, const struct user *user, char out[TOKEN_MAX],
                 struct error *err) NODISCARD;

/* Who a token is of: no I/O but of the key file. ERROR_UNAUTHORIZED. */
bool users_read_token(struct users *users, const char *token, struct token_subject *ret,
                      struct error *err) NODISCARD;
/* Whether the account is there, and its tokens are still good. ERROR_UNAUTHORIZED. */
bool users_confirm(struct users *users, const struct token_subject *subject, int64_t deadline_ms,
                   struct error *err) NODISCARD;

/* ERROR_NOT_FOUND: no such account, or a deleted one. So of the next three. */
bool users_find(struct users *users, const char *name, int64_t deadline_ms, struct user *ret,
                struct error *err) NODISCARD;
/* All tokens that were given out are void. */
bool users_set_password(struct users *users, const char *name, const char *password,
                        int64_t deadline_ms, struct user *ret, struct error *err) NODISCARD;
/* ERROR_BAD_REQUEST: over USER_FULL_NAME_MAX. */
bool users_set_full_name(struct users *users, const char *name, const char *full_name,
                         int64_t deadline_ms, struct error *err) NODISCARD;
/* What the account owns stays, and its name is not given again. */
bool users_remove(struct users *users, const char *name, int64_t deadline_ms,
                  struct error *err) NODISCARD;
/* Up to USERS_PAGE_MAX accounts whose names come after `after` in the order of their lower case. */
bool users_list(struct users *users, const char *after, int64_t deadline_ms, struct user *ret,
                size_t *count, struct error *err) NODISCARD;
