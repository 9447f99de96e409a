/* Deflated messages that end as points write them (schemas/payload.py): inflated whole, and continued by one record.

   Both streams are made once. The library is the one that Python's zlib has loaded; its headers are not needed, as
   those of libcrypto are not (tags.h), and where it is missing Python does all of this. */

#include <stdlib.h>

#define Z_NO_FLUSH 0
#define Z_SYNC_FLUSH 2
#define Z_FINISH 4
#define Z_OK 0
#define Z_STREAM_END 1
#define Z_BEST_COMPRESSION 9
#define Z_DEFLATED 8
#define Z_DEFAULT_STRATEGY 0

#define OPEN_END "\0\0\xff\xff\xb3\xd1\xcf\xb5\x03\0"   /* an empty block, and one that holds END_TAG and is the last */
#define OPEN_END_OCTETS 10
#define END_BLOCK_OCTETS 6

/* z_stream of <zlib.h>, the same since 1.0. */
typedef struct {
    const uint8_t *in;
    unsigned in_octets;
    unsigned long in_total;
    uint8_t *out;
    unsigned out_room;
    unsigned long out_total;
    const char *message;
    void *state, *allocate, *release, *opaque;
    int kind;
    unsigned long checksum, reserved;
} Stream;

static struct {
    const char *(*version)(void);
    int (*inflate_init)(Stream *, int, const char *, int);
    int (*inflate_reset)(Stream *);
    int (*inflate_dictionary)(Stream *, const uint8_t *, unsigned);
    int (*inflate)(Stream *, int);
    int (*inflate_end)(Stream *);
    int (*deflate_init)(Stream *, int, int, int, int, int, const char *, int);
    int (*deflate_reset)(Stream *);
    int (*deflate_dictionary)(Stream *, const uint8_t *, unsigned);
    int (*deflate)(Stream *, int);
    int (*deflate_end)(Stream *);
} zlib;

static bool load_zlib(void)
{
    void *library = dlopen("libz.so.1", RTLD_NOW | RTLD_LOCAL);
    return library && load(library, "zlibVersion", &zlib.version) &&
           load(library, "inflateInit2_", &zlib.inflate_init) && load(library, "inflateReset", &zlib.inflate_reset) &&
           load(library, "inflateSetDictionary", &zlib.inflate_dictionary) &&
           load(library, "inflate", &zlib.inflate) && load(library, "inflateEnd", &zlib.inflate_end) &&
           load(library, "deflateInit2_", &zlib.deflate_init) && load(library, "deflateReset", &zlib.deflate_reset) &&
           load(library, "deflateSetDictionary", &zlib.deflate_dictionary) &&
           load(library, "deflate", &zlib.deflate) && load(library, "deflateEnd", &zlib.deflate_end);
}

/* What schemas/payload.py says of the form. */
typedef struct {
    const uint8_t *dictionary;
    Py_ssize_t dictionary_octets, look_back, always, ratio, longest;
    int window_bits, memory_level;
} Form;

typedef struct {
    Stream in, out;
    uint8_t *text;
    bool is_ready;
} Streams;

static void streams_begin(Streams *streams, const Form *form)
{
    memset(streams, 0, sizeof *streams);
    if (!zlib.deflate_end || !(streams->text = malloc((size_t)form->longest + 1)))
        return;
    if (zlib.inflate_init(&streams->in, form->window_bits, zlib.version(), (int)sizeof(Stream)) != Z_OK)
        return;
    streams->is_ready = zlib.deflate_init(&streams->out, Z_BEST_COMPRESSION, Z_DEFLATED, form->window_bits,
                                          form->memory_level, Z_DEFAULT_STRATEGY, zlib.version(),
                                          (int)sizeof(Stream)) == Z_OK;
}

static void streams_end(Streams *streams)
{
    if (streams->in.state)
        zlib.inflate_end(&streams->in);
    if (streams->out.state)
        zlib.deflate_end(&streams->out);
    free(streams->text);
    streams->text = NULL;
    streams->is_ready = false;
}

/* How many octets of XML a payload of so many may hold. */
static Py_ssize_t most_behind(const Form *form, Py_ssize_t payload)
{
    Py_ssize_t most = form->always + form->ratio * payload;
    return most < form->longest ? most : form->longest;
}

/* The length of the text behind a payload that can be continued, else 0. */
static size_t inflated(Streams *streams, const Form *form, const uint8_t *payload, size_t length)
{
    if (!streams->is_ready || length < 1 + OPEN_END_OCTETS ||
        memcmp(payload + length - OPEN_END_OCTETS, OPEN_END, OPEN_END_OCTETS) != 0)
        return 0;
    Stream *in = &streams->in;
    if (zlib.inflate_reset(in) != Z_OK ||
        zlib.inflate_dictionary(in, form->dictionary, (unsigned)form->dictionary_octets) != Z_OK)
        return 0;
    size_t most = (size_t)most_behind(form, (Py_ssize_t)length);
    in->in = payload + 1;
    in->in_octets = (unsigned)(length - 1);
    in->out = streams->text;
    in->out_room = (unsigned)most + 1;
    if (zlib.inflate(in, Z_FINISH) != Z_STREAM_END || in->in_octets)
        return 0;
    size_t found = most + 1 - in->out_room;
    return found <= most ? found : 0;
}

/* Deflates what stands behind `kept` octets of the text before; how many octets that makes, 0 if more than there is
   room for. */
static size_t continued(Streams *streams, const Form *form, size_t kept, const uint8_t *added, size_t length,
                        uint8_t *at, size_t room)
{
    Stream *out = &streams->out;
    size_t behind = kept < (size_t)form->look_back ? kept : (size_t)form->look_back;
    if (zlib.deflate_reset(out) != Z_OK ||
        zlib.deflate_dictionary(out, streams->text + kept - behind, (unsigned)behind) != Z_OK)
        return 0;
    out->in = added;
    out->in_octets = (unsigned)length;
    out->out = at;
    out->out_room = (unsigned)room;
    if (zlib.deflate(out, Z_NO_FLUSH) != Z_OK || zlib.deflate(out, Z_SYNC_FLUSH) != Z_OK || !out->out_room)
        return 0;
    return room - out->out_room;
}
