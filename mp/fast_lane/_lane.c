/* The usual packet through a point, in one call: what lane.py has taken down of the pipeline's decisions is done again
   for another packet of the same kind. Every octet is checked as decode_packet, glance_at and the tags ask for it;
   whatever is not as usual, or not taken down, is left to Python: then the answer is None.

   The metrics' grammar, keys, segments and routes come from Python. Nothing here is kept from one packet to the next,
   and nothing is read beyond the packet: each step asks the cursor first. */

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <structmember.h>

#include <time.h>

#include "reading.h"
#include "tags.h"
#include "writing.h"
#include "deflating.h"

#define LONGEST_PACKET 65535

typedef struct {
    PyObject_HEAD
    PyObject *own, *point, *dictionary, *questions, *secrets, *routes, *segments;
    Form form;
    Streams streams;
    Py_ssize_t room;
    unsigned most_records;
    long long fresh_ms;
    char verifies, is_due, outgrew;
} Lane;

/* `template` holds in turn what must stand there and the kind of value that follows; at its end what must stand. */
static bool metrics(Cursor *cursor, PyObject *template)
{
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(template); i++) {
        PyObject *item = PyTuple_GET_ITEM(template, i);
        if (!PyBytes_CheckExact(item))
            return false;
        if (i % 2 == 0) {
            if (!literal(cursor, PyBytes_AS_STRING(item), (size_t)PyBytes_GET_SIZE(item)))
                return false;
            continue;
        }
        switch (*PyBytes_AS_STRING(item)) {
        case 'i':
            if (!count(cursor))
                return false;
            break;
        case 'f':
            if (!decimal(cursor))
                return false;
            break;
        case 'b':
            if (!truth(cursor))
                return false;
            break;
        default:
            return false;
        }
    }
    return true;
}

static bool is_own(const Lane *lane, uint32_t value)
{
    const uint8_t *own = (const uint8_t *)PyBytes_AS_STRING(lane->own);
    uint8_t octets[4] = {(uint8_t)(value >> 24), (uint8_t)(value >> 16), (uint8_t)(value >> 8), (uint8_t)value};
    for (Py_ssize_t i = 0; i + 4 <= PyBytes_GET_SIZE(lane->own); i += 4)
        if (memcmp(own + i, octets, 4) == 0)
            return true;
    return false;
}

static bool records(Cursor *cursor, Message *message, PyObject *template, const Lane *lane)
{
    const uint8_t *begin = message->route.at - strlen("<m><mr>");
    uint32_t value;
    message->latest = message->author = message->source;
    for (message->records = 0; LITERAL(cursor, "<mrp><up>"); message->records++) {
        if (message->records + 1 == lane->most_records || !literal(cursor, message->latest.at, message->latest.length) ||
            !LITERAL(cursor, "</up><mp>") || !address(cursor, &value, &message->latest) || is_own(lane, value) ||
            !LITERAL(cursor, "</mp><ts>") || !count(cursor) || !LITERAL(cursor, "</ts>"))
            return false;
        message->author = message->latest;
        if (LITERAL(cursor, "<ag>") && (!count(cursor) || !LITERAL(cursor, "</ag>")))
            return false;
        if (LITERAL(cursor, "<fr>") && (!address(cursor, &value, &message->author) || !LITERAL(cursor, "</fr>")))
            return false;
        if (!metrics(cursor, template))
            return false;
        message->latest_octets = (size_t)(cursor->at - begin);
        if (!tag_element(cursor, &message->latest_key, &message->latest_tag) || !LITERAL(cursor, "</mrp>"))
            return false;
    }
    return LITERAL(cursor, "</m>") && cursor->at == cursor->end;
}

/* A borrowed reference; NULL when it is not there, or with an exception. */
static PyObject *lookup(PyObject *taken_down, const Text *first, const Text *second)
{
    PyObject *key = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)(first->length + (second ? 1 + second->length : 0)));
    if (!key)
        return NULL;
    char *octets = PyBytes_AS_STRING(key);
    memcpy(octets, first->at, first->length);
    if (second) {
        octets[first->length] = ' ';
        memcpy(octets + first->length + 1, second->at, second->length);
    }
    PyObject *found = PyDict_GetItemWithError(taken_down, key);
    Py_DECREF(key);
    return found;
}

static const Secret *secret_of(PyObject *prepared)
{
    if (!prepared || !PyBytes_CheckExact(prepared) || PyBytes_GET_SIZE(prepared) != sizeof(Secret))
        return NULL;
    return (const Secret *)(const void *)PyBytes_AS_STRING(prepared);
}

/* Whether both tags are there and right; `running` is then the hash up to the last one, by the secret returned. */
static const Secret *trusted(const Lane *lane, const Message *message, const uint8_t *xml, Sha256 *running)
{
    if (!message->source_tag.length || (message->records && !message->latest_tag.length))
        return NULL;
    const Secret *secret = secret_of(lookup(lane->secrets, &message->source, &message->source_key));
    if (!secret)
        return NULL;
    Sha256 last = secret->inner;
    sha256_update(&last, xml, message->source_octets);
    *running = last;
    if (!is_right(secret, &last, &message->source_tag))
        return NULL;
    if (!message->records)
        return secret;
    const Secret *latest = secret_of(lookup(lane->secrets, &message->author, &message->latest_key));
    if (!latest)
        return NULL;
    size_t hashed = latest == secret ? message->source_octets : 0;
    if (!hashed)
        *running = latest->inner;
    sha256_update(running, xml + hashed, message->latest_octets - hashed);
    last = *running;
    return is_right(latest, &last, &message->latest_tag) ? latest : NULL;
}

static int64_t now_ms(clockid_t clock)
{
    struct timespec now;
    clock_gettime(clock, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* Python wants to hear of a packet again when `until` has passed on the monotonic clock. */
static void mark_if_due(Lane *lane, PyObject *until)
{
    if (now_ms(CLOCK_MONOTONIC) >= PyLong_AsLongLong(until))
        lane->is_due = 1;
}

/* Borrowed parts of a segment that was taken down, if it is still good. */
static bool segment_of(Lane *lane, const Message *message, int64_t now, PyObject **elements, int64_t *age_ms)
{
    PyObject *segment = lookup(lane->segments, &message->latest, &message->metrics);
    if (!segment || !PyTuple_CheckExact(segment) || PyTuple_GET_SIZE(segment) != 3)
        return false;
    *elements = PyTuple_GET_ITEM(segment, 0);
    *age_ms = now - PyLong_AsLongLong(PyTuple_GET_ITEM(segment, 1));
    if (*age_ms < 0)
        *age_ms = 0;
    mark_if_due(lane, PyTuple_GET_ITEM(segment, 2));
    return PyBytes_CheckExact(*elements) && *age_ms <= lane->fresh_ms;
}

/* A borrowed reference to what was taken down of the route: the key's id, the secret, and when Python wants to hear
   again that somebody asks for it, or None where only a request that walks is sure to be forwarded. */
static PyObject *route_of(Lane *lane, const Message *message)
{
    PyObject *route = lookup(lane->routes, &message->route, NULL);
    if (!route || !PyTuple_CheckExact(route) || PyTuple_GET_SIZE(route) != 3)
        return NULL;
    PyObject *until = PyTuple_GET_ITEM(route, 2);
    if (message->walks)
        return route;
    if (until == Py_None)
        return NULL;
    mark_if_due(lane, until);
    return route;
}

/* `octets` hold the document from `offset` on: a packet, or with 0 nothing but the document. */
static PyObject *grown(Lane *lane, const Message *message, const uint8_t *octets, size_t length, size_t offset,
                       const Secret *known, Sha256 *running)
{
    const uint8_t *xml = octets + offset;
    size_t kept = length - strlen("</m>"), kept_xml = kept - offset;
    PyObject *route = route_of(lane, message), *elements;
    int64_t now = now_ms(CLOCK_REALTIME), age_ms;
    if (!route || !segment_of(lane, message, now, &elements, &age_ms))
        return NULL;
    PyObject *key_id = PyTuple_GET_ITEM(route, 0);
    if (!PyBytes_CheckExact(key_id) || PyBytes_GET_SIZE(key_id) > LONGEST_KEY_ID)
        return NULL;
    const Secret *signer = secret_of(PyTuple_GET_ITEM(route, 1));
    size_t element_octets = (size_t)PyBytes_GET_SIZE(elements), point = (size_t)PyBytes_GET_SIZE(lane->point);
    size_t most = length + message->latest.length + point + element_octets + 160;
    PyObject *result = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)most);
    if (!result)
        return NULL;
    uint8_t *begin = (uint8_t *)PyBytes_AS_STRING(result), *at = put(begin, octets, kept), *added = at;
    at = PUT(at, "<mrp><up>");
    at = put(at, message->latest.at, message->latest.length);
    at = put(at, PyBytes_AS_STRING(lane->point), point);
    at = put_number(at, now);
    at = PUT(at, "</ts><ag>");
    at = put_number(at, age_ms);
    at = PUT(at, "</ag>");
    at = put(at, PyBytes_AS_STRING(elements), element_octets);
    if (signer) {
        size_t hashed = message->records ? message->latest_octets : message->source_octets;
        if (signer != known) {
            *running = signer->inner;
            hashed = 0;
        }
        sha256_update(running, xml + hashed, kept_xml - hashed);
        sha256_update(running, added, (size_t)(at - added));
        at = PUT(at, "<a k=\"");
        at = put(at, PyBytes_AS_STRING(key_id), (size_t)PyBytes_GET_SIZE(key_id));
        at = PUT(at, "\" t=\"");
        tag_text(signer, running, at);
        at = PUT(at + TAG_TEXT, "\"/>");
    }
    at = PUT(at, "</mrp></m>");
    size_t new_length = (size_t)(at - begin);
    if ((offset && (Py_ssize_t)(new_length - offset) > lane->room) || new_length > LONGEST_PACKET) {
        Py_DECREF(result);
        lane->outgrew = 1;
        return NULL;
    }
    if (offset)
        set_lengths(begin, new_length, octets, length, offset - UDP_HEADER, strlen("</m>"));
    if (_PyBytes_Resize(&result, (Py_ssize_t)new_length) != 0)
        return NULL;
    return result;
}

/* `ends` are the two addresses of the IPv4 header. */
static PyObject *extend(Lane *lane, const uint8_t *octets, size_t length, size_t offset, const uint8_t *ends)
{
    Message message;
    Sha256 running;
    Cursor cursor = {octets + offset, octets + length};
    if (!request(&cursor, &message) || message.source_address != packet_address(ends) ||
        message.destination_address != packet_address(ends + 4) || is_own(lane, message.source_address))
        return NULL;
    PyObject *template = lookup(lane->questions, &message.metrics, NULL);
    if (!template || !PyTuple_CheckExact(template) || !records(&cursor, &message, template, lane))
        return NULL;
    const Secret *known = NULL;
    if (lane->verifies && !(known = trusted(lane, &message, octets + offset, &running)))
        return NULL;
    return grown(lane, &message, octets, length, offset, known, &running);
}

/* The packet whose deflated payload goes on with what is new in `document`; NULL where Python has to see to that. */
static PyObject *with_record(Lane *lane, const uint8_t *octets, size_t length, size_t offset, size_t kept,
                             PyObject *document)
{
    const uint8_t *grown = (const uint8_t *)PyBytes_AS_STRING(document);
    size_t grown_octets = (size_t)PyBytes_GET_SIZE(document), begun = length - END_BLOCK_OCTETS;
    Py_ssize_t room = lane->room - (Py_ssize_t)(begun - offset) - END_BLOCK_OCTETS;
    if (room <= 0 || (Py_ssize_t)grown_octets <= lane->room || begun + (size_t)room > LONGEST_PACKET - END_BLOCK_OCTETS)
        return NULL;
    PyObject *result = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)begun + room + END_BLOCK_OCTETS);
    if (!result)
        return NULL;
    uint8_t *begin = (uint8_t *)PyBytes_AS_STRING(result), *at = put(begin, octets, begun);
    size_t added = continued(&lane->streams, &lane->form, kept, grown + kept, grown_octets - strlen("</m>") - kept, at,
                             (size_t)room);
    at = put(at + added, OPEN_END + OPEN_END_OCTETS - END_BLOCK_OCTETS, END_BLOCK_OCTETS);
    size_t new_length = (size_t)(at - begin);
    if (!added || (Py_ssize_t)grown_octets > most_behind(&lane->form, (Py_ssize_t)(new_length - offset))) {
        Py_DECREF(result);
        return NULL;
    }
    set_lengths(begin, new_length, octets, length, offset - UDP_HEADER, END_BLOCK_OCTETS);
    return _PyBytes_Resize(&result, (Py_ssize_t)new_length) == 0 ? result : NULL;
}

static PyObject *extend_deflated(Lane *lane, const uint8_t *octets, size_t length, size_t offset)
{
    size_t text = inflated(&lane->streams, &lane->form, octets + offset, length - offset);
    PyObject *document = text ? extend(lane, lane->streams.text, text, 0, octets + 12) : NULL;
    if (!document)
        return NULL;
    PyObject *result = with_record(lane, octets, length, offset, text - strlen("</m>"), document);
    Py_DECREF(document);
    return result;
}

static PyObject *or_none(PyObject *result)
{
    if (!result && !PyErr_Occurred())
        Py_RETURN_NONE;
    return result;
}

static PyObject *lane_extended(Lane *lane, PyObject *packet)
{
    if (!PyBytes_CheckExact(packet))
        return PyErr_Format(PyExc_TypeError, "a packet is bytes");
    const uint8_t *octets = (const uint8_t *)PyBytes_AS_STRING(packet);
    size_t length = (size_t)PyBytes_GET_SIZE(packet), header = header_of(octets, length);
    lane->is_due = lane->outgrew = 0;
    if (!header)
        Py_RETURN_NONE;
    size_t offset = header + UDP_HEADER;
    if (octets[offset] == DEFLATED)
        return or_none(extend_deflated(lane, octets, length, offset));
    return or_none(extend(lane, octets, length, offset, octets + 12));
}

static PyObject *lane_grown(Lane *lane, PyObject *const *arguments, Py_ssize_t count_of_arguments)
{
    if (count_of_arguments != 2 || !PyBytes_CheckExact(arguments[0]) || !PyBytes_CheckExact(arguments[1]) ||
        PyBytes_GET_SIZE(arguments[1]) != 8)
        return PyErr_Format(PyExc_TypeError, "grown(document, ends): bytes, and eight octets");
    const uint8_t *xml = (const uint8_t *)PyBytes_AS_STRING(arguments[0]);
    const uint8_t *ends = (const uint8_t *)PyBytes_AS_STRING(arguments[1]);
    lane->is_due = lane->outgrew = 0;
    return or_none(extend(lane, xml, (size_t)PyBytes_GET_SIZE(arguments[0]), 0, ends));
}

static int lane_init(Lane *lane, PyObject *arguments, PyObject *names)
{
    static char *known[] = {"own", "point", "room", "most_records", "fresh_ms", "verifies", "form", NULL};
    PyObject *own, *point, *dictionary;
    Form form;
    Py_ssize_t room;
    unsigned most_records;
    long long fresh_ms;
    int verifies;
    if (!PyArg_ParseTupleAndKeywords(arguments, names, "$SSnILp(Siinnnn)", known, &own, &point, &room, &most_records,
                                     &fresh_ms, &verifies, &dictionary, &form.window_bits, &form.memory_level,
                                     &form.look_back, &form.always, &form.ratio, &form.longest))
        return -1;
    if (!PyBytes_CheckExact(own) || !PyBytes_CheckExact(point) || !PyBytes_CheckExact(dictionary)) {
        PyErr_SetString(PyExc_TypeError, "own, point and dictionary are bytes");
        return -1;
    }
    if (lane->own) {
        PyErr_SetString(PyExc_TypeError, "a lane is made once");
        return -1;
    }
    lane->room = room;
    lane->most_records = most_records;
    lane->fresh_ms = fresh_ms;
    lane->verifies = (char)verifies;
    lane->own = Py_NewRef(own);
    lane->point = Py_NewRef(point);
    lane->dictionary = Py_NewRef(dictionary);
    form.dictionary = (const uint8_t *)PyBytes_AS_STRING(dictionary);
    form.dictionary_octets = PyBytes_GET_SIZE(dictionary);
    lane->form = form;
    streams_begin(&lane->streams, &form);
    lane->questions = PyDict_New();
    lane->secrets = PyDict_New();
    lane->routes = PyDict_New();
    lane->segments = PyDict_New();
    return lane->questions && lane->secrets && lane->routes && lane->segments ? 0 : -1;
}

static void lane_free(Lane *lane)
{
    streams_end(&lane->streams);
    Py_CLEAR(lane->own);
    Py_CLEAR(lane->point);
    Py_CLEAR(lane->dictionary);
    Py_CLEAR(lane->questions);
    Py_CLEAR(lane->secrets);
    Py_CLEAR(lane->routes);
    Py_CLEAR(lane->segments);
    Py_TYPE(lane)->tp_free((PyObject *)lane);
}

static PyObject *prepared(PyObject *module, PyObject *secret)
{
    (void)module;
    if (!PyBytes_CheckExact(secret) || PyBytes_GET_SIZE(secret) > BLOCK)
        return PyErr_Format(PyExc_ValueError, "a secret is at most %d octets", BLOCK);
    Secret made;
    uint8_t pad[BLOCK];
    Sha256 *halves[] = {&made.inner, &made.outer};
    memset(&made, 0, sizeof made);
    for (int half = 0; half < 2; half++) {
        memset(pad, 0, BLOCK);
        memcpy(pad, PyBytes_AS_STRING(secret), (size_t)PyBytes_GET_SIZE(secret));
        for (int i = 0; i < BLOCK; i++)
            pad[i] ^= half ? 0x5C : 0x36;
        sha256_init(halves[half]);
        sha256_update(halves[half], pad, BLOCK);
    }
    return PyBytes_FromStringAndSize((const char *)&made, sizeof made);
}

static PyMethodDef lane_methods[] = {
    {"extended", (PyCFunction)lane_extended, METH_O, "The packet with this point's record; None if it is not usual."},
    {"grown", (PyCFunction)(void (*)(void))lane_grown, METH_FASTCALL,
     "The same for a document alone, whose packet has these two addresses; however long it gets."},
    {NULL, NULL, 0, NULL},
};

static PyMemberDef lane_members[] = {
    {"questions", T_OBJECT_EX, offsetof(Lane, questions), READONLY, NULL},
    {"secrets", T_OBJECT_EX, offsetof(Lane, secrets), READONLY, NULL},
    {"routes", T_OBJECT_EX, offsetof(Lane, routes), READONLY, NULL},
    {"segments", T_OBJECT_EX, offsetof(Lane, segments), READONLY, NULL},
    {"is_due", T_BOOL, offsetof(Lane, is_due), READONLY, "Whether Python wants to hear of the packet just extended."},
    {"outgrew", T_BOOL, offsetof(Lane, outgrew), READONLY, "Whether the packet just left alone only lacked the room."},
    {NULL, 0, 0, 0, NULL},
};

static PyTypeObject lane_type = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "mp.fast_lane._lane.Lane",
    .tp_basicsize = sizeof(Lane),
    .tp_flags = Py_TPFLAGS_DEFAULT,
    .tp_new = PyType_GenericNew,
    .tp_init = (initproc)lane_init,
    .tp_dealloc = (destructor)lane_free,
    .tp_methods = lane_methods,
    .tp_members = lane_members,
};

static PyMethodDef functions[] = {
    {"prepared", prepared, METH_O, "The state of HMAC-SHA-256 behind the padded secret."},
    {NULL, NULL, 0, NULL},
};

static PyModuleDef definition = {PyModuleDef_HEAD_INIT, .m_name = "_lane", .m_size = -1, .m_methods = functions};

PyMODINIT_FUNC PyInit__lane(void)
{
    void *library = dlopen("libcrypto.so.3", RTLD_NOW | RTLD_LOCAL);
    if (!library || !load(library, "SHA256_Init", &sha256_init) || !load(library, "SHA256_Update", &sha256_update) ||
        !load(library, "SHA256_Final", &sha256_final))
        return PyErr_Format(PyExc_ImportError, "libcrypto.so.3 has no SHA256 functions");
    if (!load_zlib())
        memset(&zlib, 0, sizeof zlib);
    PyObject *module = PyType_Ready(&lane_type) < 0 ? NULL : PyModule_Create(&definition);
    if (module && PyModule_AddObjectRef(module, "Lane", (PyObject *)&lane_type) < 0)
        Py_CLEAR(module);
    return module;
}
