#include "http/rpc.h"

#include <string.h>

const struct rpc_protocol *rpc_find(const struct rpc_protocol *const *all,
                                    const struct request *req, bool trailers)
{
    char type[MEDIA_TYPE_MAX];

    if (all == NULL || strcmp(req->method, "POST") != 0)
        return NULL;
    request_media_type(req, type);
    for (; *all != NULL; all++)
        for (size_t i = 0; i < ARRAY_SIZE((*all)->types) && (*all)->types[i] != NULL; i++)
            if (strcmp((*all)->types[i], type) == 0 && (trailers || !(*all)->trailers))
                return *all;
    return NULL;
}
