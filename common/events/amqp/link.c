#include "events/amqp/link.h"

#include "base/json.h"
#include "base/log.h"
#include "base/strings.h"
#include "base/xmalloc.h"
#include "events/amqp/amqp_url.h"

/* 0.12 moved the headers */
#if __has_include(<rabbitmq-c/amqp.h>)
#include <rabbitmq-c/amqp.h>
#include <rabbitmq-c/ssl_socket.h>
#include <rabbitmq-c/tcp_socket.h>
#else
#include <amqp.h>
#include <amqp_framing.h>
#include <amqp_ssl_socket.h>
#include <amqp_tcp_socket.h>
#endif
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <string.h>
#include <sys/socket.h>

enum {
    CHANNEL = 1,
    FRAME_MAX = 131072,
    HEADERS_MAX = FRAME_MAX / 2, /* bytes that are kept of a message's: its copies fit, too */
};

#define CONSUMER "darkroom"

struct amqp_link {
    amqp_connection_state_t state;
    struct amqp_url url;
    const char *ca_file;
    int verify_error; /* X509_V_…, of the handshake */
    /* the content that is arriving */
    struct amqp_incoming incoming;
    enum { IDLE, WANT_HEADER, WANT_BODY } reading;
    uint64_t body_left;
    char blocked[AMQP_TEXT_MAX + 1]; /* "": not */
};

static amqp_bytes_t text(const char *s)
{
    return amqp_cstring_bytes(s != NULL ? s : "");
}

/* ---- errors */

static bool fail(const struct amqp_link *l, int status, struct error *err)
{
    return error_set(err, ERROR_UNAVAILABLE, "RabbitMQ at %.80s:%d: %s", l->url.host,
                     (int)l->url.port, amqp_error_string2(status));
}

/* What the broker closed the channel or the connection with. */
static bool closed(const struct amqp_link *l, const amqp_method_t *method, struct error *err)
{
    bool channel = method->id == AMQP_CHANNEL_CLOSE_METHOD;
    const amqp_channel_close_t *c = method->decoded;
    const amqp_connection_close_t *k = method->decoded;
    int code = channel ? c->reply_code : k->reply_code;
    amqp_bytes_t why = channel ? c->reply_text : k->reply_text;
    const char *advice = code == AMQP_PRECONDITION_FAILED
                             ? "; delete what is there under this name, or use another vhost"
                         : code == AMQP_ACCESS_REFUSED || code == AMQP_NOT_ALLOWED
                             ? "; grant the user access to this vhost"
                             : "";

    return error_set(err, ERROR_UNAVAILABLE, "RabbitMQ at %.60s closes the %s: %.*s%s", l->url.host,
                     channel ? "channel" : "connection", (int)(why.len < 100 ? why.len : 100),
                     (const char *)why.bytes, advice);
}

static bool check(const struct amqp_link *l, const char *doing, amqp_rpc_reply_t reply,
                  struct error *err)
{
    if (reply.reply_type == AMQP_RESPONSE_NORMAL)
        return true;
    if (reply.reply_type == AMQP_RESPONSE_SERVER_EXCEPTION && reply.reply.decoded != NULL)
        closed(l, &reply.reply, err);
    else
        fail(l, reply.library_error != 0 ? reply.library_error : AMQP_STATUS_CONNECTION_CLOSED,
             err);
    return error_wrap(err, "%s", doing);
}

static bool check_last(const struct amqp_link *l, const char *doing, struct error *err)
{
    return check(l, doing, amqp_get_rpc_reply(l->state), err);
}

/* ---- opening */

static int note_verify_error(int ok, X509_STORE_CTX *store)
{
    SSL *ssl = X509_STORE_CTX_get_ex_data(store, SSL_get_ex_data_X509_STORE_CTX_idx());

    if (!ok)
        *(int *)SSL_CTX_get_app_data(SSL_get_SSL_CTX(ssl)) = X509_STORE_CTX_get_error(store);
    return ok;
}

/* OpenSSL's own check of the name: librabbitmq 0.11's does not know addresses. */
static bool set_up_tls(struct amqp_link *l, amqp_socket_t *socket, struct error *err)
{
    SSL_CTX *ctx = amqp_ssl_socket_get_context(socket);
    X509_VERIFY_PARAM *param = SSL_CTX_get0_param(ctx);
    unsigned char address[sizeof(struct in6_addr)];
    bool is_address = inet_pton(AF_INET, l->url.host, address) == 1 ||
                      inet_pton(AF_INET6, l->url.host, address) == 1;

    amqp_ssl_socket_set_verify_peer(socket, 1);
    amqp_ssl_socket_set_verify_hostname(socket, 0);
    SSL_CTX_set_app_data(ctx, &l->verify_error);
    SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER, note_verify_error);
    bool authorities = *l->ca_file != '\0'
                           ? SSL_CTX_load_verify_locations(ctx, l->ca_file, NULL) == 1
                           : SSL_CTX_set_default_verify_paths(ctx) == 1;
    if (!authorities)
        return error_set(err, ERROR_UNAVAILABLE, "CA_FILE %.150s holds no certificates",
                         l->ca_file);
    if (SSL_CTX_set_min_proto_version(ctx, TLS1_2_VERSION) != 1 ||
        (is_address ? X509_VERIFY_PARAM_set1_ip_asc(param, l->url.host)
                    : X509_VERIFY_PARAM_set1_host(param, l->url.host, 0)) != 1)
        return error_set(err, ERROR_UNAVAILABLE, "%.150s cannot be verified", l->url.host);
    return true;
}

static bool connect_socket(struct amqp_link *l, struct error *err)
{
    const struct timeval limit = {.tv_sec = AMQP_CALL_MS / 1000};
    amqp_socket_t *socket =
        l->url.tls ? amqp_ssl_socket_new(l->state) : amqp_tcp_socket_new(l->state);

    if (socket == NULL)
        return error_oom(err);
    if (l->url.tls && !set_up_tls(l, socket, err))
        return false;
    int status = amqp_socket_open_noblock(socket, l->url.host, (int)l->url.port, &limit);
    if (status != AMQP_STATUS_OK && l->verify_error != X509_V_OK)
        return error_set(err, ERROR_UNAVAILABLE,
                         "RabbitMQ at %.80s: its certificate is refused (%.80s); CA_FILE names who "
                         "may vouch for it, and the URL's host must be in it",
                         l->url.host, X509_verify_cert_error_string(l->verify_error));
    if (status != AMQP_STATUS_OK)
        return fail(l, status, err);
    unsigned silence_ms = (unsigned)(2000 * l->url.heartbeat_s);
    setsockopt(amqp_get_sockfd(l->state), IPPROTO_TCP, TCP_USER_TIMEOUT, &silence_ms,
               sizeof(silence_ms));
    return true;
}

static amqp_table_entry_t string_entry(const char *name, const char *value)
{
    return (amqp_table_entry_t){
        .key = text(name), .value = {.kind = AMQP_FIELD_KIND_UTF8, .value.bytes = text(value)}};
}

static bool declare(struct amqp_link *l, struct error *err)
{
    amqp_table_entry_t entries[] = {
        string_entry("x-queue-type", "quorum"),
        string_entry("x-dead-letter-exchange", ""),
        string_entry("x-dead-letter-routing-key", AMQP_DEAD),
        /* a dead letter is confirmed, too, which the broker does only with this overflow */
        string_entry("x-dead-letter-strategy", "at-least-once"),
        string_entry("x-overflow", "reject-publish"),
        {.key = text("x-delivery-limit"),
         .value = {.kind = AMQP_FIELD_KIND_I32, .value.i32 = AMQP_DELIVERY_LIMIT}},
    };
    const amqp_table_t dead = {.num_entries = 1, .entries = entries};
    const amqp_table_t images = {.num_entries = ARRAY_SIZE(entries), .entries = entries};

    amqp_exchange_declare(l->state, CHANNEL, text(AMQP_IMAGES), text("direct"), 0, 1, 0, 0,
                          amqp_empty_table);
    if (!check_last(l, "declaring exchange " AMQP_IMAGES, err))
        return false;
    amqp_queue_declare(l->state, CHANNEL, text(AMQP_DEAD), 0, 1, 0, 0, dead);
    if (!check_last(l, "declaring queue " AMQP_DEAD, err))
        return false;
    amqp_queue_declare(l->state, CHANNEL, text(AMQP_IMAGES), 0, 1, 0, 0, images);
    if (!check_last(l, "declaring queue " AMQP_IMAGES, err))
        return false;
    amqp_queue_bind(l->state, CHANNEL, text(AMQP_IMAGES), text(AMQP_IMAGES), text(AMQP_IMAGES),
                    amqp_empty_table);
    return check_last(l, "binding queue " AMQP_IMAGES, err);
}

/* As the older image manager and its classifier declare them: neither outlives the broker. */
static bool declare_older(struct amqp_link *l, struct error *err)
{
    const amqp_bytes_t exchange = text("deepModel"), queue = text(AMQP_OLDER);

    amqp_exchange_declare(l->state, CHANNEL, exchange, text("direct"), 0, 0, 0, 0,
                          amqp_empty_table);
    if (!check_last(l, "declaring exchange deepModel", err))
        return false;
    amqp_queue_declare(l->state, CHANNEL, queue, 0, 0, 0, 0, amqp_empty_table);
    if (!check_last(l, "declaring queue " AMQP_OLDER, err))
        return false;
    amqp_queue_bind(l->state, CHANNEL, queue, exchange, text("resnet"), amqp_empty_table);
    return check_last(l, "binding queue " AMQP_OLDER, err);
}

/* Without them the broker keeps both to itself. */
static amqp_rpc_reply_t sign_in(struct amqp_link *l)
{
    amqp_table_entry_t notices[] = {
        {.key = text("connection.blocked"),
         .value = {.kind = AMQP_FIELD_KIND_BOOLEAN, .value.boolean = 1}},
        {.key = text("consumer_cancel_notify"),
         .value = {.kind = AMQP_FIELD_KIND_BOOLEAN, .value.boolean = 1}},
    };
    amqp_table_entry_t capabilities = {
        .key = text("capabilities"),
        .value = {.kind = AMQP_FIELD_KIND_TABLE,
                  .value.table = {.num_entries = ARRAY_SIZE(notices), .entries = notices}}};
    const amqp_table_t properties = {.num_entries = 1, .entries = &capabilities};

    return amqp_login_with_properties(l->state, l->url.vhost, 0, FRAME_MAX, (int)l->url.heartbeat_s,
                                      &properties, AMQP_SASL_METHOD_PLAIN, l->url.user,
                                      l->url.password);
}

static bool set_up(struct amqp_link *l, bool older, struct error *err)
{
    const struct timeval limit = {.tv_sec = AMQP_CALL_MS / 1000};

    if (!connect_socket(l, err))
        return false;
    amqp_set_handshake_timeout(l->state, &limit);
    amqp_set_rpc_timeout(l->state, &limit);
    if (!check(l, "signing in", sign_in(l), err))
        return false;
    amqp_channel_open(l->state, CHANNEL);
    if (!check_last(l, "opening a channel", err) || !declare(l, err) ||
        (older && !declare_older(l, err)))
        return false;
    amqp_confirm_select(l->state, CHANNEL);
    return check_last(l, "asking for confirms", err);
}

struct amqp_link *amqp_link_open(const struct amqp_options *options, struct error *err)
{
    struct amqp_link *l = xcalloc(1, sizeof(*l));

    l->ca_file = options->ca_file != NULL ? options->ca_file : "";
    if (amqp_url_parse(options->url, &l->url, err)) {
        l->state = amqp_new_connection();
        if (l->state == NULL)
            error_oom(err);
        else if (set_up(l, options->older, err))
            return l;
    }
    amqp_link_close(l, false);
    return NULL;
}

void amqp_link_close(struct amqp_link *l, bool orderly)
{
    if (l == NULL)
        return;
    if (l->state != NULL) {
        if (orderly)
            (void)amqp_connection_close(l->state, AMQP_REPLY_SUCCESS);
        amqp_destroy_connection(l->state);
    }
    amqp_incoming_done(&l->incoming);
    explicit_bzero(&l->url, sizeof(l->url));
    free(l);
}

void amqp_link_break(struct amqp_link *l)
{
    shutdown(amqp_link_fd(l), SHUT_RDWR);
}

int amqp_link_fd(const struct amqp_link *l)
{
    return amqp_get_sockfd(l->state);
}

const char *amqp_link_blocked(const struct amqp_link *l)
{
    return *l->blocked != '\0' ? l->blocked : NULL;
}

/* ---- out */

/* The entries of a message's headers, on the heap: borrowed texts. */
static amqp_table_t headers_of(const struct amqp_outgoing *m)
{
    size_t most = ARRAY_SIZE(m->headers) + json_object_size(m->copied);
    amqp_table_t table = {.entries = xcalloc(most, sizeof(*table.entries))};

    for (size_t i = 0; i < ARRAY_SIZE(m->headers) && m->headers[i].name != NULL; i++)
        if (*m->headers[i].value != '\0')
            table.entries[table.num_entries++] =
                string_entry(m->headers[i].name, m->headers[i].value);
    for (void *i = json_object_iter(m->copied); i != NULL; i = json_object_iter_next(m->copied, i))
        table.entries[table.num_entries++] =
            string_entry(json_object_iter_key(i), json_string_value(json_object_iter_value(i)));
    return table;
}

bool amqp_link_publish(struct amqp_link *l, const struct amqp_outgoing *m, struct error *err)
{
    amqp_basic_properties_t p = {._flags = AMQP_BASIC_DELIVERY_MODE_FLAG | AMQP_BASIC_HEADERS_FLAG,
                                 .delivery_mode = m->persistent ? 2 : 1,
                                 .headers = headers_of(m)};
    const struct {
        const char *value;
        amqp_bytes_t *field;
        amqp_flags_t flag;
    } texts[] = {
        {m->content_type, &p.content_type, AMQP_BASIC_CONTENT_TYPE_FLAG},
        {m->message_id, &p.message_id, AMQP_BASIC_MESSAGE_ID_FLAG},
        {m->correlation_id, &p.correlation_id, AMQP_BASIC_CORRELATION_ID_FLAG},
        {m->reply_to, &p.reply_to, AMQP_BASIC_REPLY_TO_FLAG},
    };

    for (size_t i = 0; i < ARRAY_SIZE(texts); i++)
        if (texts[i].value != NULL && *texts[i].value != '\0') {
            *texts[i].field = text(texts[i].value);
            p._flags |= texts[i].flag;
        }
    amqp_bytes_t body = {.len = m->body.len};
    memcpy(&body.bytes, &m->body.data, sizeof(body.bytes)); /* it is not changed */
    int status = amqp_basic_publish(l->state, CHANNEL, text(m->exchange), text(m->key),
                                    m->mandatory, 0, &p, body);
    free(p.headers.entries);
    return status == AMQP_STATUS_OK || fail(l, status, err);
}

bool amqp_link_acknowledge(struct amqp_link *l, uint64_t tag, struct error *err)
{
    int status = amqp_basic_ack(l->state, CHANNEL, tag, 0);

    return status == AMQP_STATUS_OK || fail(l, status, err);
}

bool amqp_link_reject(struct amqp_link *l, uint64_t tag, struct error *err)
{
    int status = amqp_basic_reject(l->state, CHANNEL, tag, 0);

    return status == AMQP_STATUS_OK || fail(l, status, err);
}

bool amqp_link_consume(struct amqp_link *l, const char *queue, int prefetch, struct error *err)
{
    amqp_basic_qos(l->state, CHANNEL, 0, (uint16_t)prefetch, 0);
    if (!check_last(l, "limiting the deliveries", err))
        return false;
    amqp_basic_consume(l->state, CHANNEL, text(queue), text(CONSUMER), 0, 0, 0, amqp_empty_table);
    return check_last(l, "consuming", err);
}

bool amqp_link_cancel(struct amqp_link *l, struct error *err)
{
    amqp_basic_cancel(l->state, CHANNEL, text(CONSUMER));
    return check_last(l, "ending to consume", err);
}

bool amqp_link_count(struct amqp_link *l, const char *queue, uint32_t *ret, struct error *err)
{
    amqp_queue_declare_ok_t *ok =
        amqp_queue_declare(l->state, CHANNEL, text(queue), 1, 0, 0, 0, amqp_empty_table);

    if (!check_last(l, "counting messages", err))
        return false;
    *ret = ok->message_count;
    return true;
}

/* ---- in */

static void copy(char out[AMQP_TEXT_MAX + 1], amqp_bytes_t in)
{
    size_t len = in.len <= AMQP_TEXT_MAX ? in.len : 0;

    if (len > 0)
        memcpy(out, in.bytes, len);
    out[len] = '\0';
}

static json_t *read_headers(const amqp_table_t *table)
{
    json_t *headers = json_object();
    size_t total = 0;

    for (int i = 0; i < table->num_entries; i++) {
        const amqp_table_entry_t *e = &table->entries[i];
        char name[AMQP_TEXT_MAX + 1];
        if (e->value.kind != AMQP_FIELD_KIND_UTF8)
            continue;
        copy(name, e->key);
        total += e->key.len + e->value.value.bytes.len;
        if (total <= HEADERS_MAX) /* NULL, which is not UTF-8, sets nothing */
            json_object_set_new(headers, name,
                                json_stringn(e->value.value.bytes.bytes, e->value.value.bytes.len));
    }
    return headers;
}

static void read_properties(struct amqp_incoming *in, const amqp_basic_properties_t *p)
{
    const struct {
        amqp_flags_t flag;
        char *out;
        amqp_bytes_t value;
    } texts[] = {
        {AMQP_BASIC_MESSAGE_ID_FLAG, in->message_id, p->message_id},
        {AMQP_BASIC_CORRELATION_ID_FLAG, in->correlation_id, p->correlation_id},
        {AMQP_BASIC_REPLY_TO_FLAG, in->reply_to, p->reply_to},
        {AMQP_BASIC_CONTENT_TYPE_FLAG, in->content_type, p->content_type},
    };

    for (size_t i = 0; i < ARRAY_SIZE(texts); i++)
        if (p->_flags & texts[i].flag)
            copy(texts[i].out, texts[i].value);
    if (p->_flags & AMQP_BASIC_HEADERS_FLAG)
        in->headers = read_headers(&p->headers);
}

static bool begin(struct amqp_link *l, struct amqp_incoming head)
{
    head.body = (struct buffer)BUFFER_MAX(AMQP_BODY_MAX);
    l->incoming = head;
    l->reading = WANT_HEADER;
    return true;
}

static void note_blocked(struct amqp_link *l, const amqp_connection_blocked_t *m)
{
    copy(l->blocked, m->reason);
    if (*l->blocked == '\0')
        snprintf(l->blocked, sizeof(l->blocked), "no reason given");
    log_warning("RabbitMQ reads nothing until its alarm ends; give it memory or disk",
                F("reason", (const char *)l->blocked));
}

/* False: an error. *ret stays AMQP_NOTHING when it is nothing that a caller sees. */
static bool take_method(struct amqp_link *l, const amqp_method_t *method, struct amqp_incoming *ret,
                        struct error *err)
{
    switch (method->id) {
    case AMQP_BASIC_ACK_METHOD: {
        const amqp_basic_ack_t *m = method->decoded;
        *ret = (struct amqp_incoming){
            .kind = AMQP_ACK, .tag = m->delivery_tag, .multiple = m->multiple};
        return true;
    }
    case AMQP_BASIC_NACK_METHOD: {
        const amqp_basic_nack_t *m = method->decoded;
        *ret = (struct amqp_incoming){
            .kind = AMQP_NACK, .tag = m->delivery_tag, .multiple = m->multiple};
        return true;
    }
    case AMQP_BASIC_RETURN_METHOD:
        return begin(l, (struct amqp_incoming){.kind = AMQP_RETURN});
    case AMQP_BASIC_CANCEL_METHOD:
        *ret = (struct amqp_incoming){.kind = AMQP_CANCEL};
        return true;
    case AMQP_BASIC_DELIVER_METHOD: {
        const amqp_basic_deliver_t *m = method->decoded;
        return begin(l, (struct amqp_incoming){.kind = AMQP_DELIVERY,
                                               .tag = m->delivery_tag,
                                               .redelivered = m->redelivered});
    }
    case AMQP_CONNECTION_BLOCKED_METHOD:
        note_blocked(l, method->decoded);
        return true;
    case AMQP_CONNECTION_UNBLOCKED_METHOD:
        *l->blocked = '\0';
        log_info("RabbitMQ reads again");
        return true;
    case AMQP_CHANNEL_CLOSE_METHOD:
    case AMQP_CONNECTION_CLOSE_METHOD:
        return closed(l, method, err);
    default:
        return true;
    }
}

static bool take_body(struct amqp_link *l, struct bytes part, struct error *err)
{
    if (part.len > l->body_left)
        return fail(l, AMQP_STATUS_BAD_AMQP_DATA, err);
    l->body_left -= part.len;
    return l->incoming.too_large || buffer_append(&l->incoming.body, part.data, part.len, err) ||
           error_set(err, ERROR_UNAVAILABLE, "no memory for a message");
}

static bool take_content(struct amqp_link *l, const amqp_frame_t *frame, struct amqp_incoming *ret,
                         struct error *err)
{
    const amqp_bytes_t part = frame->payload.body_fragment;

    if (frame->frame_type == AMQP_FRAME_HEADER && l->reading == WANT_HEADER) {
        l->body_left = frame->payload.properties.body_size;
        l->incoming.too_large = l->body_left > AMQP_BODY_MAX;
        read_properties(&l->incoming, frame->payload.properties.decoded);
        l->reading = WANT_BODY;
    } else if (frame->frame_type != AMQP_FRAME_BODY || l->reading != WANT_BODY) {
        return fail(l, AMQP_STATUS_BAD_AMQP_DATA, err);
    } else if (!take_body(l, bytes_of(part.bytes, part.len), err)) {
        return false;
    }
    if (l->body_left == 0) {
        *ret = l->incoming;
        l->incoming = (struct amqp_incoming){0};
        l->reading = IDLE;
    }
    return true;
}

bool amqp_link_receive(struct amqp_link *l, struct amqp_incoming *ret, struct error *err)
{
    const struct timeval now = {0};

    *ret = (struct amqp_incoming){.kind = AMQP_NOTHING};
    while (ret->kind == AMQP_NOTHING) {
        amqp_frame_t frame;
        amqp_maybe_release_buffers(l->state);
        int status = amqp_simple_wait_frame_noblock(l->state, &frame, &now);
        if (status == AMQP_STATUS_TIMEOUT)
            return true;
        if (status != AMQP_STATUS_OK)
            return fail(l, status, err);
        if (frame.frame_type == AMQP_FRAME_METHOD ? !take_method(l, &frame.payload.method, ret, err)
                                                  : !take_content(l, &frame, ret, err))
            return false;
    }
    return true;
}

void amqp_incoming_done(struct amqp_incoming *incoming)
{
    json_decref(incoming->headers);
    buffer_done(&incoming->body);
    *incoming = (struct amqp_incoming){0};
}
