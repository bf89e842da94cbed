#include "timeline.h"

#include <cairo-svg.h>
#include <cairo.h>
#include <dlfcn.h>
#include <math.h>
#include <string.h>

/* A name missing here does not compile. */
#define CAIRO_FUNCTIONS(X)                                                                         \
    X(create)                                                                                      \
    X(destroy)                                                                                     \
    X(fill)                                                                                        \
    X(image_surface_create)                                                                        \
    X(line_to)                                                                                     \
    X(move_to)                                                                                     \
    X(paint)                                                                                       \
    X(rectangle)                                                                                   \
    X(rotate)                                                                                      \
    X(restore)                                                                                     \
    X(save)                                                                                        \
    X(select_font_face)                                                                            \
    X(set_font_size)                                                                               \
    X(set_line_width)                                                                              \
    X(set_source_rgb)                                                                              \
    X(show_text)                                                                                   \
    X(stroke)                                                                                      \
    X(surface_destroy)                                                                             \
    X(surface_finish)                                                                              \
    X(surface_status)                                                                              \
    X(surface_write_to_png_stream)                                                                 \
    X(svg_surface_create_for_stream)                                                               \
    X(text_extents)                                                                                \
    X(translate)

static struct {
    pthread_once_t once;
    bool loaded;
#define MEMBER(name) __typeof__(cairo_##name) *name;
    CAIRO_FUNCTIONS(MEMBER)
#undef MEMBER
} cairo = {.once = PTHREAD_ONCE_INIT};

static bool find(void *library, const char *name, void *pointer)
{
    void *symbol = dlsym(library, name);

    memcpy(pointer, &symbol, sizeof(symbol)); /* ISO C does not convert it */
    return symbol != NULL;
}

static void load(void)
{
    void *library = dlopen("libcairo.so.2", RTLD_NOW | RTLD_LOCAL); /* kept to the end */

    if (library == NULL)
        return;
#define FIND(name) find(library, "cairo_" #name, &cairo.name) &&
    cairo.loaded = CAIRO_FUNCTIONS(FIND) true;
#undef FIND
}

/* Pixels of the picture, and where in it things stand. */
enum {
    WIDTH = 1600,
    HEIGHT = 900,
    LEFT = 210,
    RIGHT = 1240,
    TOP = 70,
    BOTTOM = 820,
    ROW = (BOTTOM - TOP) / PIPELINE_STAGES,
    ROW_PAD = 14,
    LEGEND = 1270,
    LEGEND_LINE = 24,
    LEGEND_BOX = 16,
    LEGEND_CHARACTERS = 32, /* of a file's name */
    BAR_MIN = 2,
    TICKS = 8, /* about as many on the axis */
    FONT = 15,
    FONT_TITLE = 22,
};

struct drawing {
    cairo_t *cr;
    const struct timeline_view *view;
    double begin_s, seconds; /* of the axis */
};

static void set_grey(cairo_t *cr, double grey)
{
    cairo.set_source_rgb(cr, grey, grey, grey);
}

/* Of a hue from 0 to 1: its red; its green and blue are the red of hues 2/3 and 1/3 further on. */
static double red(double hue)
{
    return fmin(fmax(fabs(fmod(hue, 1) * 6 - 3) - 1, 0), 1);
}

/* One a picture: hues in steps of the golden ratio, so that neighbours differ, in three shades.
 * Returns how bright it is. */
static double set_colour(cairo_t *cr, size_t picture)
{
    static const struct {
        double bright, pale;
    } shades[] = {{0.85, 0.15}, {0.62, 0.15}, {0.95, 0.45}};
    const double hue = 0.58 + 0.618034 * (double)picture;
    const double bright = shades[picture % ARRAY_SIZE(shades)].bright;
    const double pale = shades[picture % ARRAY_SIZE(shades)].pale;

    const double r = bright * (pale + (1 - pale) * red(hue));
    const double g = bright * (pale + (1 - pale) * red(hue + 2 / 3.0));
    const double b = bright * (pale + (1 - pale) * red(hue + 1 / 3.0));

    cairo.set_source_rgb(cr, r, g, b);
    return 0.3 * r + 0.59 * g + 0.11 * b;
}

/* `align`: 0 begins at x, 0.5 is centred, 1 ends there. */
static void text(cairo_t *cr, double x, double y, double align, const char *words)
{
    cairo_text_extents_t size;

    cairo.text_extents(cr, words, &size);
    cairo.move_to(cr, x - align * size.x_advance, y);
    cairo.show_text(cr, words);
}

static double x_of(const struct drawing *d, double at_s)
{
    return LEFT + (RIGHT - LEFT) * (at_s - d->begin_s) / d->seconds;
}

/* Rows from the bottom, as the older plot has them. */
static double row_top(size_t stage)
{
    return BOTTOM - ROW * (double)(stage + 1);
}

/* 1, 2 or 5 times a power of ten. */
static double tick_step(double seconds)
{
    const double rough = seconds / TICKS;
    const double power = pow(10, floor(log10(rough)));
    const double digit = rough / power;

    return power * (digit <= 1 ? 1 : digit <= 2 ? 2 : digit <= 5 ? 5 : 10);
}

static void draw_axes(const struct drawing *d)
{
    cairo_t *cr = d->cr;
    const double step = tick_step(d->seconds);
    char number[32];

    cairo.set_font_size(cr, FONT_TITLE);
    text(cr, (LEFT + RIGHT) / 2.0, 40, 0.5, "Pipeline Service Execution Timeline");
    cairo.set_font_size(cr, FONT);
    text(cr, (LEFT + RIGHT) / 2.0, BOTTOM + 56, 0.5, "Time (seconds)");
    cairo.save(cr);
    cairo.translate(cr, 26, (TOP + BOTTOM) / 2.0);
    cairo.rotate(cr, -M_PI / 2);
    text(cr, 0, 0, 0.5, "Service");
    cairo.restore(cr);
    cairo.set_line_width(cr, 1);
    for (int i = 0; i * step <= d->seconds * (1 + 1e-9); i++) {
        const double x = floor(x_of(d, d->begin_s + i * step)) + 0.5;

        set_grey(cr, 0.87);
        cairo.move_to(cr, x, TOP);
        cairo.line_to(cr, x, BOTTOM);
        cairo.stroke(cr);
        set_grey(cr, 0.15);
        snprintf(number, sizeof(number), "%g", i * step);
        text(cr, x, BOTTOM + 26, 0.5, number);
    }
    for (size_t i = 0; i < PIPELINE_STAGES; i++)
        text(cr, LEFT - 14, row_top(i) + ROW / 2.0 + 5, 1, stage_name((enum pipeline_stage)i));
    cairo.rectangle(cr, LEFT + 0.5, TOP + 0.5, RIGHT - LEFT, BOTTOM - TOP);
    cairo.stroke(cr);
}

/* Bars that overlap lie in lanes of the row, one below the other. */
struct lanes {
    size_t lane[TIMELINE_PICTURES]; /* of each picture */
    size_t count;
};

static bool ran(const struct task_span *span)
{
    return span->end_s > 0;
}

static void find_lanes(const struct timeline_view *view, size_t stage, struct lanes *ret)
{
    double end_s[TIMELINE_PICTURES] = {0};
    bool placed[TIMELINE_PICTURES] = {false};

    *ret = (struct lanes){.count = 1};
    for (size_t n = 0; n < view->count; n++) {
        size_t first = view->count, lane = 0;

        for (size_t i = 0; i < view->count; i++)
            if (!placed[i] &&
                (first == view->count || view->pictures[i].spans[stage].begin_s <
                                             view->pictures[first].spans[stage].begin_s))
                first = i;
        const struct task_span *span = &view->pictures[first].spans[stage];
        placed[first] = true;
        while (ran(span) && end_s[lane] > span->begin_s)
            lane++;
        ret->lane[first] = lane;
        end_s[lane] = fmax(end_s[lane], span->end_s);
        ret->count = lane + 1 > ret->count ? lane + 1 : ret->count;
    }
}

static void draw_row(const struct drawing *d, size_t stage)
{
    struct lanes lanes;
    char number[24];

    find_lanes(d->view, stage, &lanes);
    const double height = (ROW - 2.0 * ROW_PAD) / (double)lanes.count;
    for (size_t i = 0; i < d->view->count; i++) {
        const struct task_span *span = &d->view->pictures[i].spans[stage];
        const double x = x_of(d, span->begin_s), width = x_of(d, span->end_s) - x;
        const double y = row_top(stage) + ROW_PAD + height * (double)lanes.lane[i];
        cairo_text_extents_t size;

        if (!ran(span))
            continue;
        const double brightness = set_colour(d->cr, i);
        cairo.rectangle(d->cr, x, y + 1, fmax(width, BAR_MIN), height - 2);
        cairo.fill(d->cr);
        snprintf(number, sizeof(number), "%zu", i + 1);
        cairo.text_extents(d->cr, number, &size);
        set_grey(d->cr, brightness < 0.45 ? 1 : 0.1);
        if (width > size.x_advance + 4 && height > FONT)
            text(d->cr, x + width / 2, y + height / 2 + 5, 0.5, number);
    }
}

/* A line of the legend: the picture's number and its file's name, cut to a few characters, what
 * fonts cannot show as '?'. */
static void legend_text(size_t number, const char *file_name, char *out, size_t size)
{
    size_t len = (size_t)snprintf(out, size, "%zu  ", number);
    int characters = 0;

    for (const char *p = file_name; *p != '\0' && len + 8 < size;) {
        size_t bytes = 1;
        while (((unsigned char)p[bytes] & 0xC0) == 0x80)
            bytes++;
        if (++characters > LEGEND_CHARACTERS) {
            memcpy(out + len, "…", sizeof("…") - 1);
            len += sizeof("…") - 1;
            break;
        }
        bool control = (unsigned char)*p < ' ' || *p == 0x7f;
        memcpy(out + len, control ? "?" : p, bytes);
        len += bytes;
        p += bytes;
    }
    out[len] = '\0';
}

static void draw_legend(const struct drawing *d)
{
    char words[TASK_TEXT_MAX];

    set_grey(d->cr, 0.15);
    text(d->cr, LEGEND, TOP - 14, 0, "Images");
    for (size_t i = 0; i < d->view->count; i++) {
        const double y = TOP + LEGEND_LINE * (double)i;

        set_colour(d->cr, i);
        cairo.rectangle(d->cr, LEGEND, y, LEGEND_BOX, LEGEND_BOX);
        cairo.fill(d->cr);
        set_grey(d->cr, 0.15);
        legend_text(i + 1, d->view->pictures[i].file_name, words, sizeof(words));
        text(d->cr, LEGEND + LEGEND_BOX + 8, y + LEGEND_BOX - 3, 0, words);
    }
}

static void draw(cairo_surface_t *surface, const struct timeline_view *view)
{
    struct drawing d = {.cr = cairo.create(surface), .view = view, .seconds = 1};
    double end_s = 0;

    for (size_t i = 0; i < view->count; i++) {
        const struct timeline_picture *picture = &view->pictures[i];
        d.begin_s = i == 0 ? picture->accepted_s : fmin(d.begin_s, picture->accepted_s);
        for (size_t stage = 0; stage < PIPELINE_STAGES; stage++)
            end_s = fmax(end_s, picture->spans[stage].end_s);
    }
    if (end_s > d.begin_s)
        d.seconds = end_s - d.begin_s;
    cairo.select_font_face(d.cr, "DejaVu Sans", CAIRO_FONT_SLANT_NORMAL, CAIRO_FONT_WEIGHT_NORMAL);
    cairo.set_source_rgb(d.cr, 1, 1, 1);
    cairo.paint(d.cr);
    set_grey(d.cr, 0.15);
    draw_axes(&d);
    for (size_t stage = 0; stage < PIPELINE_STAGES; stage++)
        draw_row(&d, stage);
    draw_legend(&d);
    cairo.destroy(d.cr);
}

struct sink {
    struct buffer *out;
    struct error *err;
};

static cairo_status_t write_bytes(void *arg, const unsigned char *data, unsigned len)
{
    struct sink *sink = arg;

    return buffer_append(sink->out, data, len, sink->err) ? CAIRO_STATUS_SUCCESS
                                                          : CAIRO_STATUS_WRITE_ERROR;
}

bool plot_draw(const struct timeline_view *view, enum plot_format format, struct buffer *out,
               struct error *err)
{
    struct error why;
    struct sink sink = {out, &why};
    cairo_status_t status = CAIRO_STATUS_SUCCESS;

    pthread_once(&cairo.once, load);
    if (!cairo.loaded)
        return error_set(err, ERROR_INTERNAL, "libcairo.so.2 cannot be loaded: no plot");
    error_set(&why, ERROR_OVERLOADED, "the plot cannot be drawn"); /* unless the sink says more */
    cairo_surface_t *surface =
        format == PLOT_SVG ? cairo.svg_surface_create_for_stream(write_bytes, &sink, WIDTH, HEIGHT)
                           : cairo.image_surface_create(CAIRO_FORMAT_RGB24, WIDTH, HEIGHT);
    draw(surface, view);
    if (format == PLOT_PNG)
        status = cairo.surface_write_to_png_stream(surface, write_bytes, &sink);
    cairo.surface_finish(surface);
    if (status == CAIRO_STATUS_SUCCESS)
        status = cairo.surface_status(surface);
    cairo.surface_destroy(surface);
    if (status != CAIRO_STATUS_SUCCESS)
        *err = why;
    return status == CAIRO_STATUS_SUCCESS;
}
