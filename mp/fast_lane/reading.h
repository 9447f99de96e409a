/* What stands in a packet, step by step: nothing is read beyond its end, since each step asks the cursor first. */

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#define BARE_HEADER 20
#define UDP_HEADER 8
#define TAG_TEXT 22         /* 16 octets in base64url without padding */
#define LONGEST_KEY_ID 16
#define DEFLATED 1

typedef struct {
    const uint8_t *at, *end;
} Cursor;

typedef struct {
    const uint8_t *at;
    size_t length;
} Text;

/* What stands in a message, as far as it matters here. */
typedef struct {
    Text route, source, metrics, latest, author, source_key, source_tag, latest_key, latest_tag;
    uint32_t source_address, destination_address;
    size_t source_octets, latest_octets;    /* what the tags cover: from the beginning of the document */
    unsigned records;
    bool walks;                             /* no age of data is allowed, so it has to go all the way */
} Message;

static bool literal(Cursor *cursor, const void *octets, size_t length)
{
    if ((size_t)(cursor->end - cursor->at) < length || memcmp(cursor->at, octets, length) != 0)
        return false;
    cursor->at += length;
    return true;
}

#define LITERAL(cursor, text) literal(cursor, text, sizeof(text) - 1)

static bool is_digit(const Cursor *cursor)
{
    return cursor->at < cursor->end && *cursor->at >= '0' && *cursor->at <= '9';
}

/* 0, or at most 15 digits that do not begin with one */
static bool count(Cursor *cursor)
{
    if (!is_digit(cursor))
        return false;
    if (*cursor->at++ == '0')
        return true;
    for (int i = 0; i < 14 && is_digit(cursor); i++)
        cursor->at++;
    return true;
}

static bool decimal(Cursor *cursor)
{
    (void)LITERAL(cursor, "-");
    if (!count(cursor))
        return false;
    if (!LITERAL(cursor, "."))
        return true;
    if (!is_digit(cursor))
        return false;
    for (int i = 0; i < 9 && is_digit(cursor); i++)
        cursor->at++;
    return true;
}

static bool truth(Cursor *cursor)
{
    return LITERAL(cursor, "0") || LITERAL(cursor, "1");
}

static bool address(Cursor *cursor, uint32_t *value, Text *text)
{
    text->at = cursor->at;
    *value = 0;
    for (int i = 0; i < 4; i++) {
        unsigned octet = 0, digits = 0;
        if (i && !LITERAL(cursor, "."))
            return false;
        const uint8_t *first = cursor->at;
        for (; digits < 3 && is_digit(cursor); digits++)
            octet = octet * 10 + (unsigned)(*cursor->at++ - '0');
        if (!digits || octet > 255 || (digits > 1 && *first == '0'))
            return false;
        *value = *value << 8 | octet;
    }
    text->length = (size_t)(cursor->at - text->at);
    return true;
}

static bool hexadecimal(Cursor *cursor, int digits)
{
    for (; digits; digits--, cursor->at++)
        if (!is_digit(cursor) && !(cursor->at < cursor->end && *cursor->at >= 'a' && *cursor->at <= 'f'))
            return false;
    return true;
}

static bool is_key_octet(uint8_t octet)
{
    return (octet >= '0' && octet <= '9') || (octet >= 'a' && octet <= 'z') || octet == '.' || octet == '-';
}

static bool is_tag_octet(uint8_t octet)
{
    return (octet >= '0' && octet <= '9') || (octet >= 'a' && octet <= 'z') || (octet >= 'A' && octet <= 'Z') ||
           octet == '_' || octet == '-';
}

/* The element `a` of an HMAC key, if there is one; false if there is something else that begins as one does. */
static bool tag_element(Cursor *cursor, Text *key, Text *tag)
{
    key->length = tag->length = 0;
    if (!LITERAL(cursor, "<a k=\""))
        return true;
    key->at = cursor->at;
    while (cursor->at < cursor->end && key->length < LONGEST_KEY_ID && is_key_octet(*cursor->at))
        cursor->at++, key->length++;
    if (!key->length || *key->at == '.' || *key->at == '-' || !LITERAL(cursor, "\" t=\""))
        return false;
    tag->at = cursor->at;
    while (cursor->at < cursor->end && tag->length < TAG_TEXT && is_tag_octet(*cursor->at))
        cursor->at++, tag->length++;
    return tag->length == TAG_TEXT && memchr("AQgw", cursor->at[-1], 4) && LITERAL(cursor, "\"/>");
}

static bool request(Cursor *cursor, Message *message)
{
    const uint8_t *begin = cursor->at;
    Text ignored;
    if (!LITERAL(cursor, "<m><mr>"))
        return false;
    message->route.at = cursor->at;
    if (!LITERAL(cursor, "<hs>") || !address(cursor, &message->source_address, &message->source) ||
        !LITERAL(cursor, "</hs><hd>") || !address(cursor, &message->destination_address, &ignored) ||
        !LITERAL(cursor, "</hd>"))
        return false;
    message->route.length = (size_t)(cursor->at - message->route.at);
    if (!LITERAL(cursor, "<id>") || !hexadecimal(cursor, 32) || !LITERAL(cursor, "</id><ms>"))
        return false;
    message->metrics.at = cursor->at;
    while (cursor->at < cursor->end && *cursor->at != '<')
        cursor->at++;
    message->metrics.length = (size_t)(cursor->at - message->metrics.at);
    if (!LITERAL(cursor, "</ms><ct>") || !count(cursor) || !LITERAL(cursor, "</ct><lt>") || !count(cursor) ||
        !LITERAL(cursor, "</lt>"))
        return false;
    Cursor age = *cursor;
    message->walks = LITERAL(&age, "<ma>0<");
    if (!LITERAL(cursor, "<ma>") || !count(cursor) || !LITERAL(cursor, "</ma>"))
        return false;
    if (LITERAL(cursor, "<cp>") && (!count(cursor) || !LITERAL(cursor, "</cp>")))
        return false;
    message->source_octets = (size_t)(cursor->at - begin);
    return tag_element(cursor, &message->source_key, &message->source_tag) && LITERAL(cursor, "</mr>");
}

static unsigned word(const uint8_t *at)
{
    return (unsigned)(at[0] << 8 | at[1]);
}

/* Octets of the IPv4 header if it is a usual packet whose payload begins as a message does, else 0. */
static size_t header_of(const uint8_t *packet, size_t length)
{
    if (length < BARE_HEADER + 4 + UDP_HEADER + 1 || word(packet + 2) != length || (word(packet + 6) & 0x3FFF) ||
        packet[9] != 17)
        return 0;
    size_t header = packet[0] == 0x46 && memcmp(packet + BARE_HEADER, "\x94\x04\0\0", 4) == 0 ? BARE_HEADER + 4
                    : packet[0] == 0x45                                                     ? BARE_HEADER
                                                                                            : 0;
    bool is_usual = header && word(packet + header + 4) == length - header && word(packet + header + 6) != 0;
    bool begins = is_usual && (packet[header + UDP_HEADER] == '<' || packet[header + UDP_HEADER] == DEFLATED);
    return begins ? header : 0;
}

static uint32_t packet_address(const uint8_t *at)
{
    return (uint32_t)word(at) << 16 | word(at + 2);
}
