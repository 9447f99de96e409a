/* What C can do with the packet queue: accept each packet, or append constant octets to its payload.

   queue_peer NAMESPACE QUEUE accept|append

   One verdict a packet, as libnetfilter_queue's own example does it. Prints "ready" when it is bound. Appending
   sets both lengths, the header's checksum anew, and the UDP checksum by what was added (RFC 1624). */

#include "kernel.h"

#include <libnetfilter_queue/libnetfilter_queue.h>
#include <linux/netfilter.h>

#define QUEUE_LENGTH 8192
#define COPIED_BYTES 4016
#define APPENDED_BYTES 150

static uint8_t appended[APPENDED_BYTES];

static unsigned word(const uint8_t *at)
{
    return (unsigned)(at[0] << 8 | at[1]);
}

static size_t append(uint8_t *packet, size_t length, const uint8_t *from)
{
    size_t header = (from[0] & 0x0F) * 4, udp_length = length - header;
    uint8_t *udp = packet + header;
    memcpy(packet, from, length);
    memcpy(packet + length, appended, APPENDED_BYTES);
    put_word(packet + 2, (unsigned)(length + APPENDED_BYTES));
    put_word(packet + 10, 0);
    put_word(packet + 10, (uint16_t)~ones_complement_sum(packet, header, 0));
    unsigned old_checksum = word(udp + 6);
    if (old_checksum != 0) {
        uint16_t sum = ones_complement_sum(appended, APPENDED_BYTES, 0);
        if (udp_length % 2) /* the added octets begin in the middle of a word */
            sum = (uint16_t)(sum << 8 | sum >> 8);
        /* The length counts twice: in the header and in the pseudo header. */
        uint32_t total = (~old_checksum & 0xFFFF) + sum + 2 * APPENDED_BYTES;
        uint16_t checksum = (uint16_t)~ones_complement_sum(NULL, 0, total);
        put_word(udp + 6, checksum ? checksum : 0xFFFF);
    }
    put_word(udp + 4, (unsigned)(udp_length + APPENDED_BYTES));
    return length + APPENDED_BYTES;
}

static int take(struct nfq_q_handle *queue, struct nfgenmsg *message, struct nfq_data *data, void *appends)
{
    static uint8_t changed[COPIED_BYTES + APPENDED_BYTES];
    (void)message;
    uint32_t id = ntohl(nfq_get_msg_packet_hdr(data)->packet_id);
    if (!appends)
        return nfq_set_verdict(queue, id, NF_ACCEPT, 0, NULL);
    uint8_t *packet;
    int length = nfq_get_payload(data, &packet);
    if (length < 28 || (size_t)length != word(packet + 2))
        return nfq_set_verdict(queue, id, NF_ACCEPT, 0, NULL);
    return nfq_set_verdict(queue, id, NF_ACCEPT, (uint32_t)append(changed, (size_t)length, packet), changed);
}

int main(int argc, char **argv)
{
    if (argc != 4)
        return 2;
    memset(appended, 'x', sizeof appended);
    enter_namespace(argv[1]);
    struct nfq_handle *handle = nfq_open();
    if (!handle)
        die("nfq_open");
    void *appends = strcmp(argv[3], "append") == 0 ? handle : NULL;
    struct nfq_q_handle *queue = nfq_create_queue(handle, (uint16_t)atoi(argv[2]), take, appends);
    if (!queue || nfq_set_mode(queue, NFQNL_COPY_PACKET, COPIED_BYTES) < 0 ||
        nfq_set_queue_maxlen(queue, QUEUE_LENGTH) < 0)
        die("nfq_create_queue");
    int fd = nfq_fd(handle), bytes = BUFFER_BYTES;
    if (setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &bytes, sizeof bytes) != 0)
        die("SO_RCVBUFFORCE");
    puts("ready");
    fflush(stdout);
    static char buffer[65536] __attribute__((aligned(8)));
    for (;;) {
        ssize_t length = recv(fd, buffer, sizeof buffer, 0);
        if (length > 0)
            nfq_handle_packet(handle, buffer, (int)length);
        else if (errno != EINTR && errno != ENOBUFS) /* the sink counts what was lost */
            die("recv");
    }
}
