#include "base/json.h"

#include <setjmp.h>

/* What Jansson holds while it parses. It is not told that memory ran out, since it does not bear
 * that: it ignores that a string did not grow, and then reads and frees what is not its own
 * (2.14, lex_save). Instead it is left on the spot, and what it held is freed here. */
struct blocks {
    void **block;
    size_t count, room;
};

struct parse {
    jmp_buf out_of_memory;
    struct blocks held;
    struct blocks released; /* of `held`, and not yet freed */
};

enum { RECENT = 16 };

static _Thread_local struct parse *parsing;

static bool add(struct blocks *blocks, void *block)
{
    if (blocks->count == blocks->room) {
        size_t room = blocks->room > 0 ? 2 * blocks->room : 64;
        void **more = reallocarray(blocks->block, room, sizeof(*more));
        if (more == NULL)
            return false;
        blocks->block = more;
        blocks->room = room;
    }
    blocks->block[blocks->count++] = block;
    return true;
}

static void blocks_done(struct blocks *blocks, bool free_them)
{
    for (size_t i = 0; free_them && i < blocks->count; i++)
        free(blocks->block[i]);
    free(blocks->block);
}

static void *allocate(size_t size)
{
    void *block = malloc(size);

    if (parsing == NULL || (block != NULL && add(&parsing->held, block)))
        return block;
    free(block);
    longjmp(parsing->out_of_memory, 1);
}

/* What is not found soon is freed when the parser is done: a malformed text has all of it released
 * in the order of its making, and searching for each would take forever. */
static void release(void *block)
{
    if (parsing == NULL || block == NULL) {
        free(block);
        return;
    }
    struct blocks *held = &parsing->held;
    for (size_t i = 0; i < RECENT && i < held->count; i++)
        if (held->block[held->count - 1 - i] == block) {
            held->block[held->count - 1 - i] = held->block[held->count - 1];
            held->count--;
            free(block);
            return;
        }
    if (!add(&parsing->released, block))
        longjmp(parsing->out_of_memory, 1);
}

/* Before anything else has memory of Jansson's. Blocks are malloc's: free is good for a text. */
__attribute__((constructor)) static void watch_jansson(void)
{
    json_set_alloc_funcs(allocate, release);
}

static json_t *parse(struct parse *p, struct bytes text, size_t flags, struct error *err)
{
    json_error_t why;

    if (setjmp(p->out_of_memory) != 0) {
        parsing = NULL;
        error_oom(err);
        return NULL;
    }
    parsing = p;
    json_t *json =
        json_loadb(text.data != NULL ? (const char *)text.data : "", text.len, flags, &why);
    parsing = NULL;
    if (json == NULL)
        error_set(err, ERROR_BAD_REQUEST, "%.120s", why.text);
    return json;
}

json_t *json_read(struct bytes text, size_t flags, struct error *err)
{
    struct parse p = {.held = {0}};
    json_t *json = parse(&p, text, flags, err);

    blocks_done(&p.held, json == NULL);
    blocks_done(&p.released, json != NULL);
    return json;
}
