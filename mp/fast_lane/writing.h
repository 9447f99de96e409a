/* A packet that has grown: its text, lengths and checksums. */

static uint8_t *put(uint8_t *at, const void *octets, size_t length)
{
    memcpy(at, octets, length);
    return at + length;
}

#define PUT(at, text) put(at, text, sizeof(text) - 1)

static uint8_t *put_number(uint8_t *at, int64_t value)
{
    uint8_t digits[20], *first = digits + sizeof digits;
    do
        *--first = (uint8_t)('0' + value % 10);
    while (value /= 10);
    return put(at, first, (size_t)(digits + sizeof digits - first));
}

static void put_word(uint8_t *at, unsigned value)
{
    at[0] = (uint8_t)(value >> 8);
    at[1] = (uint8_t)value;
}

static uint64_t sum_of(const uint8_t *octets, size_t length)
{
    uint64_t sum = 0;
    for (; length > 1; octets += 2, length -= 2)
        sum += word(octets);
    return length ? sum + (unsigned)(*octets << 8) : sum;
}

/* Equation 3 of RFC 1624; a corruption that came in stays visible. */
static unsigned updated(unsigned checksum, uint64_t removed, uint64_t added)
{
    while (removed >> 16)
        removed = (removed & 0xFFFF) + (removed >> 16);
    uint64_t sum = (~checksum & 0xFFFF) + (~removed & 0xFFFF) + added;
    while (sum >> 16)
        sum = (sum & 0xFFFF) + (sum >> 16);
    return ~(unsigned)sum & 0xFFFF;
}

/* Lengths and checksums of `packet`, which is `old` with something else in the place of the last octets. */
static void set_lengths(uint8_t *packet, size_t length, const uint8_t *old, size_t old_length, size_t header,
                        size_t replaced)
{
    size_t kept = header + UDP_HEADER + ((old_length - header - UDP_HEADER - replaced) & ~(size_t)1);
    unsigned udp_length = (unsigned)(length - header), old_udp_length = (unsigned)(old_length - header);
    uint64_t removed = sum_of(old + kept, old_length - kept) + 2 * (uint64_t)old_udp_length;
    uint64_t added = sum_of(packet + kept, length - kept) + 2 * (uint64_t)udp_length;
    unsigned checksum = updated(word(old + header + 6), removed, added);
    put_word(packet + header + 6, checksum ? checksum : 0xFFFF);
    put_word(packet + header + 4, udp_length);
    put_word(packet + 10, updated(word(old + 10), old_length, length));
    put_word(packet + 2, (unsigned)length);
}
