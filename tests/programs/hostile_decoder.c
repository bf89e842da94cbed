/* A decoder that an image can take over: the services of the tests (build/VARIANT/hostile/) are
 * linked with it in front of the real one, by --wrap (Makefile). The services themselves have no
 * such hook. An image that begins with the comment "darkroom-attack:NAME" has that tried; when it
 * works, the image is processed like any other, so that 200 means: escaped.
 * tests/integration/test_sandbox.py. */
#include "image/image.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

bool __real_image_transform(struct image_scratch *worker, const struct image_input *input,
                            const struct image_options *options, struct image_result *ret,
                            struct error *err);
bool __wrap_image_transform(struct image_scratch *worker, const struct image_input *input,
                            const struct image_options *options, struct image_result *ret,
                            struct error *err);
bool __real_image_to_pixels(struct image_scratch *worker, const struct image_input *input,
                            const struct image_tensor_spec *spec, uint8_t *rgb,
                            struct image_stages *ret, struct error *err);
bool __wrap_image_to_pixels(struct image_scratch *worker, const struct image_input *input,
                            const struct image_tensor_spec *spec, uint8_t *rgb,
                            struct image_stages *ret, struct error *err);

static bool attack_open(void)
{
    return open("/etc/passwd", O_RDONLY | O_CLOEXEC) >= 0;
}

static bool attack_write(void)
{
    return open("/tmp/darkroom-escaped", O_WRONLY | O_CREAT | O_CLOEXEC, 0600) >= 0;
}

static bool attack_connect(void)
{
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(22)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    (void)connect(fd, (struct sockaddr *)&to, sizeof(to));
    return fd >= 0;
}

static bool attack_exec(void)
{
    execl("/bin/true", "true", (char *)NULL);
    return false;
}

static bool attack_fork(void)
{
    pid_t pid = fork();

    if (pid == 0)
        _exit(0);
    return pid > 0;
}

static bool attack_kill(void)
{
    return kill(getppid(), SIGKILL) == 0;
}

/* Until there is no more, at most 4 GiB. */
static bool attack_allocate(void)
{
    enum { PIECE = 1 << 20, PIECES = 4096 };
    int n = 0;

    for (char *p; n < PIECES && (p = malloc(PIECE)) != NULL; n++)
        *(volatile char *)p = 1;
    return n == PIECES;
}

static bool attack_spin(void)
{
    for (volatile unsigned i = 0;; i++)
        ;
    return true;
}

static bool attack_crash(void)
{
    raise(SIGSEGV);
    return true;
}

/* Over the end of the heap, or of whatever comes first. */
static bool attack_overrun(void)
{
    volatile char *p = malloc(1);

    for (size_t i = 0; p != NULL; i++)
        p[i] = 1;
    return false;
}

static bool attack_exit(void)
{
    _exit(0);
}

static bool is_attack(struct bytes data, const char *name)
{
    static const char marker[] = "darkroom-attack:";
    size_t at = 6; /* SOI, COM, its length */

    if (!bytes_starts_with(data, "\xff\xd8\xff\xfe", 4) || data.len < 256)
        return false;
    return memcmp(data.data + at, marker, strlen(marker)) == 0 &&
           memcmp(data.data + at + strlen(marker), name, strlen(name) + 1) == 0;
}

static bool survive(struct bytes data, struct error *err)
{
    static const struct {
        const char *name;
        bool (*works)(void);
    } attacks[] = {
        {"open", attack_open}, {"write", attack_write},       {"connect", attack_connect},
        {"exec", attack_exec}, {"fork", attack_fork},         {"kill", attack_kill},
        {"spin", attack_spin}, {"allocate", attack_allocate}, {"crash", attack_crash},
        {"exit", attack_exit}, {"overrun", attack_overrun},
    };

    for (size_t i = 0; i < ARRAY_SIZE(attacks); i++) {
        if (is_attack(data, attacks[i].name) && !attacks[i].works())
            return strcmp(attacks[i].name, "allocate") == 0
                       ? error_oom(err)
                       : error_set(err, ERROR_BAD_IMAGE, "the attack failed");
    }
    return true;
}

bool __wrap_image_transform(struct image_scratch *worker, const struct image_input *input,
                            const struct image_options *options, struct image_result *ret,
                            struct error *err)
{
    return survive(input->data, err) && __real_image_transform(worker, input, options, ret, err) &&
           /* a result that is not what was asked for */
           (!is_attack(input->data, "lie") || memset(ret->data, 'x', ret->len) != NULL);
}

bool __wrap_image_to_pixels(struct image_scratch *worker, const struct image_input *input,
                            const struct image_tensor_spec *spec, uint8_t *rgb,
                            struct image_stages *ret, struct error *err)
{
    /* past what is shared with the service */
    for (size_t i = 0; is_attack(input->data, "overrun-output"); i++)
        ((volatile uint8_t *)rgb)[i] = 1;
    return survive(input->data, err) && __real_image_to_pixels(worker, input, spec, rgb, ret, err);
}
