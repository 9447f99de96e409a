/* What the programs of the suite share: sockets in a network namespace, frames from a file, time. */

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define ETHERNET_BYTES 14
#define LONGEST_FRAME_BYTES 9000
#define MOST_FRAMES 256
#define BUFFER_BYTES (16 << 20)
#define NS_PER_S 1000000000LL

static inline void die(const char *what)
{
    perror(what);
    exit(1);
}

static inline void enter_namespace(const char *name)
{
    char path[256];
    snprintf(path, sizeof path, "/run/netns/%s", name);
    int namespace = open(path, O_RDONLY | O_CLOEXEC);
    if (namespace < 0 || setns(namespace, CLONE_NEWNET) != 0)
        die(path);
    close(namespace);
}

/* A packet socket on one interface of a namespace; protocol 0 receives nothing. */
static inline int packet_socket(const char *namespace, const char *interface, int protocol)
{
    enter_namespace(namespace);
    int fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0);
    struct sockaddr_ll address = {.sll_family = AF_PACKET, .sll_protocol = htons(protocol),
                                  .sll_ifindex = (int)if_nametoindex(interface)};
    if (fd < 0 || bind(fd, (struct sockaddr *)&address, sizeof address) != 0)
        die(interface);
    int bytes = BUFFER_BYTES;
    if (setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &bytes, sizeof bytes) != 0)
        die("SO_RCVBUFFORCE");
    return fd;
}

/* Sends past the queueing discipline, so that nothing waits there. */
static inline int sending_socket(const char *namespace, const char *interface)
{
    int fd = packet_socket(namespace, interface, 0), yes = 1;
    if (setsockopt(fd, SOL_PACKET, PACKET_QDISC_BYPASS, &yes, sizeof yes) != 0)
        die("PACKET_QDISC_BYPASS");
    return fd;
}

struct frame {
    size_t length;
    uint8_t *octets;
};

/* All frames of a file, each behind its length in two octets; gives their number. */
static inline size_t read_frames(const char *path, struct frame frames[MOST_FRAMES])
{
    static uint8_t file[MOST_FRAMES * LONGEST_FRAME_BYTES];
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t total = fd < 0 ? -1 : read(fd, file, sizeof file);
    if (total <= 0)
        die(path);
    close(fd);
    size_t count = 0;
    for (ssize_t at = 0; at + 2 < total && count < MOST_FRAMES; count++) {
        frames[count].length = (size_t)(file[at] << 8 | file[at + 1]);
        frames[count].octets = file + at + 2;
        at += 2 + (ssize_t)frames[count].length;
    }
    return count;
}

static inline int64_t now_ns(clockid_t clock)
{
    struct timespec time;
    clock_gettime(clock, &time);
    return time.tv_sec * NS_PER_S + time.tv_nsec;
}

/* RFC 1071, of an even number of octets, on top of a sum so far; the caller inverts it. */
static inline uint16_t ones_complement_sum(const uint8_t *data, size_t length, uint32_t sum)
{
    for (size_t i = 0; i + 1 < length; i += 2)
        sum += (uint32_t)(data[i] << 8 | data[i + 1]);
    while (sum >> 16)
        sum = (sum & 0xFFFF) + (sum >> 16);
    return (uint16_t)sum;
}

static inline void put_word(uint8_t *at, unsigned value)
{
    at[0] = (uint8_t)(value >> 8);
    at[1] = (uint8_t)value;
}
