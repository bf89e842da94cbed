/* What the handlers of the older image manager's routes share. Without IMAGE_MANAGER_API they
 * answer 404, like an unknown path. Errors are ERROR_FORM_OLDER. */
#pragma once

#include "../accounts.h"
#include "../preprocess.h"
#include "base/strings.h"

/* A request of somebody who signed in: the use cases' context says who. */
struct manager_call {
    struct caller caller;
    struct request req;
};

enum { MANAGER_ID_LEN = 24 }; /* hex digits, like MongoDB's ObjectId */

bool manager_is_on(const struct app *app, struct error *err) NODISCARD;
/* On, and the second word of Authorization is a user's token: the older clients write "Baerer".
 * ERROR_FORBIDDEN, ERROR_NOT_FOUND, or a passing error. `call` stays where it is. */
bool manager_begin(const struct app *app, const struct request *req, struct manager_call *call,
                   struct error *err) NODISCARD;

/* What stands for a MongoDB id: the same for the same user, for ever. */
bool manager_user_id(const char *name, char out[MANAGER_ID_LEN + 1], struct error *err) NODISCARD;
/* A token that was just given out, as these routes give it out: in place. */
bool manager_token(const struct app *app, char token[TOKEN_MAX], struct error *err) NODISCARD;
/* Whose it is. ERROR_UNAUTHORIZED. */
bool manager_read_token(const struct app *app, const char *token, struct token_subject *ret,
                        struct error *err) NODISCARD;

/* An error with the status that the older clients know it by. */
struct reply manager_fault(int status, const struct error *err);

/* preprocess of the form's one field `image`, as large as it is. ERROR_BAD_REQUEST without it. */
bool manager_upload(const struct app *app, const struct manager_call *call, bool encrypt,
                    struct preprocessed *ret, struct error *err) NODISCARD;
/* A picture that the caller may see, by its id's first digits (MANAGER_ID_LEN at least); ret's
 * format is not filled in. ERROR_NOT_FOUND. */
bool manager_find(const struct app *app, const struct manager_call *call, const char *digits,
                  struct object_name *ret, struct error *err) NODISCARD;

struct reply handle_manager_sign_in(const struct app *app, const struct request *req);
struct reply handle_manager_sign_up(const struct app *app, const struct request *req);
struct reply handle_manager_user(const struct app *app, const struct request *req);
struct reply handle_manager_user_change(const struct app *app, const struct request *req);
struct reply handle_manager_user_delete(const struct app *app, const struct request *req);
struct reply handle_manager_upload(const struct app *app, const struct request *req);
struct reply handle_manager_delete(const struct app *app, const struct request *req);
struct reply handle_manager_view(const struct app *app, const struct request *req);
struct reply handle_storage_upload(const struct app *app, const struct request *req);
struct reply handle_storage_file(const struct app *app, const struct request *req);
struct reply handle_storage_delete(const struct app *app, const struct request *req);
