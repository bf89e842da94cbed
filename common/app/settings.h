/* The settings of both services: the struct that holds them, the table that fills it (settings.c)
 * and the rules between them (settings_check.c). Immutable once loaded. */
#pragma once

#include "base/config.h"

enum service_kind { SERVICE_PREPROCESS = 1, SERVICE_CLASSIFY = 2, SERVICE_BOTH = 3 };

struct settings {
    int64_t port;
    char *host;
    char *log_level;
    char *log_format;

    int64_t max_body_bytes;
    int64_t max_pixels;
    int64_t max_decode_bytes;
    int64_t decode_budget_bytes;
    int64_t max_connections;
    int64_t max_inflight;
    int64_t body_budget_bytes;
    int64_t body_stall_ms;
    int64_t body_min_rate; /* bytes/s */
    int64_t workers;       /* never 0 after settings_load */
    int64_t queue_max;
    int64_t request_timeout_ms;
    int64_t shutdown_notice_ms;
    int64_t shutdown_grace_ms;
    char *ca_file;
    bool images;
    bool remove_background;
    char *uploader_url; /* of the pipeline's stages; "": here */
    char *noise_url;
    char *background_url;
    char *classifier_url;
    char *uploader_addr; /* the same by gRPC, before the URLs; "": not */
    char *noise_addr;
    char *background_addr;
    char *classifier_addr;
    char *cors_origins;
    char *results_base_url;

    char *storage_url; /* never empty after settings_load */
    char *seal_keys_file;
    char *seal;
    char *bucket;
    int64_t retention_days; /* 0: for ever */
    char *allowed_buckets;
    char *s3_endpoint;
    char *s3_region;
    char *s3_addressing;
    char *s3_signature;
    char *aws_access_key_id;
    char *aws_secret_access_key;
    char *aws_session_token;
    char *gcs_endpoint;
    char *storage_emulator_host;
    char *gce_metadata_host;
    char *google_application_credentials;

    char *events_url; /* pubsub://TOPIC for PREP_TOPIC, as it stands there */
    char *source_url;
    bool amqp_old_queue;
    char *imagedisk_host;
    int64_t imagedisk_port;
    char *prep_topic;
    char *class_topic;
    char *google_cloud_project;
    char *pubsub_endpoint;
    char *pubsub_emulator_host; /* a URL after settings_load */
    char *outbox_path;
    char *catalogue_url; /* sqlite:…, postgresql://… or none: */
    int64_t outbox_max_pending;
    int64_t push_concurrency;
    int64_t background_concurrency;
    int64_t max_delivery_attempts;
    int64_t delivery_max_age_s;
    char *push_token;
    char *push_audience;
    char *push_service_account;
    char *auth_audience;
    char *auth_emails;
    char *oidc_issuer;
    char *oidc_jwks_url;
    bool users;
    char *users_url; /* never empty after settings_load */
    char *token_key_file;
    char *admins;
    bool image_manager_api;
    char *image_manager_secret;
    int64_t proxies;

    char *model;
    char *background_model;
    bool allow_ephemeral;
    bool sandbox;
};

/* Read and check the environment for one service. On false, every mistake has been appended to
 * `mistakes`, one line each. settings_done in either case. */
bool settings_load(enum service_kind service, struct settings *ret,
                   struct buffer *mistakes) NODISCARD;
void settings_done(struct settings *settings);
/* settings_load's first step: each row by itself. */
bool settings_read(enum service_kind service, struct settings *ret,
                   struct buffer *mistakes) NODISCARD;
/* One line for the log; secrets are not in it. */
bool settings_describe(enum service_kind service, const struct settings *settings,
                       struct buffer *out, struct error *err) NODISCARD;
void settings_print_help(enum service_kind service, FILE *out);
