/* What a statement takes and returns: what db.h and the drivers share. */
#pragma once

#include <stdint.h>

struct db_session;

struct db_value {
    enum { DB_VALUE_NULL, DB_VALUE_INT, DB_VALUE_REAL, DB_VALUE_TEXT } type;
    int64_t integer;
    double real;
    const char *text; /* borrowed until the rows are done */
};

struct db_rows {
    struct db_session *session;
    void *statement, *result;
    int row;
};

enum db_step { DB_ROW, DB_DONE, DB_FAILED };
