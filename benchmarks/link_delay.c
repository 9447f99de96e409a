/* Sends small UDP datagrams from one network namespace to another and prints, for each that arrived, when the
 * kernel sent it and when the kernel received it, so that no user-space scheduling is part of the difference.
 *
 *   link_delay NAMESPACE_A NAMESPACE_B ADDRESS_B PORT PACKETS_PER_S COUNT DELAY_MS
 *
 * Output: "sequence sent_ns received_ns" per line, CLOCK_REALTIME; 0 where no stamp came.
 * Stamps: SO_TIMESTAMPING of the kernel's Documentation/networking/timestamping.rst.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/errqueue.h>
#include <linux/net_tstamp.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define PAYLOAD_BYTES 64
#define SENDER_PRIORITY 5 /* keeps the pace on a busy machine; below the link process */

static long count;
static long long *sent_ns, *received_ns;
static int sender, receiver;

static void die(const char *what)
{
    perror(what);
    exit(1);
}

static int socket_in(const char *name, int flags)
{
    char path[256];
    int bytes = 8 << 20;
    snprintf(path, sizeof path, "/run/netns/%s", name);
    int namespace = open(path, O_RDONLY | O_CLOEXEC);
    if (namespace < 0 || setns(namespace, CLONE_NEWNET) != 0)
        die(path);
    close(namespace);
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_TIMESTAMPING, &flags, sizeof flags) != 0)
        die("SO_TIMESTAMPING");
    if (setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &bytes, sizeof bytes) != 0)
        die("SO_RCVBUFFORCE");
    return fd;
}

/* One message with its stamp; false when none is there. */
static int take(int fd, int flags, unsigned *sequence, long long *stamp_ns)
{
    char control[512];
    unsigned payload = 0;
    struct iovec part = {&payload, sizeof payload};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = control,
                             .msg_controllen = sizeof control};
    if (recvmsg(fd, &message, flags) < 0)
        return 0;
    *sequence = ntohl(payload);
    *stamp_ns = 0;
    for (struct cmsghdr *c = CMSG_FIRSTHDR(&message); c; c = CMSG_NXTHDR(&message, c)) {
        if (c->cmsg_level == SOL_SOCKET && c->cmsg_type == SO_TIMESTAMPING) {
            struct timespec *stamp = (struct timespec *)CMSG_DATA(c);
            *stamp_ns = stamp->tv_sec * 1000000000LL + stamp->tv_nsec;
        } else if (c->cmsg_level == SOL_IP && c->cmsg_type == IP_RECVERR) {
            *sequence = ((struct sock_extended_err *)CMSG_DATA(c))->ee_data; /* SOF_TIMESTAMPING_OPT_ID */
        }
    }
    return 1;
}

static void take_sent_stamps(void)
{
    unsigned sequence;
    long long stamp_ns;
    while (take(sender, MSG_ERRQUEUE | MSG_DONTWAIT, &sequence, &stamp_ns))
        if (sequence < count)
            sent_ns[sequence] = stamp_ns;
}

static void *receive(void *unused)
{
    unsigned sequence;
    long long stamp_ns;
    while (take(receiver, 0, &sequence, &stamp_ns)) /* ends by SO_RCVTIMEO */
        if (sequence < count)
            received_ns[sequence] = stamp_ns;
    return unused;
}

static void send_all(double packets_per_s)
{
    unsigned payload[PAYLOAD_BYTES / sizeof(unsigned)] = {0};
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    double start_s = now.tv_sec + now.tv_nsec / 1e9 + 0.2; /* stamps take 50 ms to be switched on */
    for (long i = 0; i < count; i++) {
        /* A tenth of dither keeps the pace from locking on to another periodic thing. */
        double at_s = start_s + (i + 0.1 * drand48()) / packets_per_s;
        struct timespec at = {(time_t)at_s, (long)((at_s - (time_t)at_s) * 1e9)};
        clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &at, NULL);
        payload[0] = htonl(i);
        if (send(sender, payload, sizeof payload, 0) < 0)
            die("send");
        if (i % 32 == 31)
            take_sent_stamps();
    }
}

int main(int argc, char **argv)
{
    if (argc != 8)
        return 2;
    count = atol(argv[6]);
    sent_ns = calloc(count, sizeof *sent_ns);
    received_ns = calloc(count, sizeof *received_ns);
    if (!sent_ns || !received_ns)
        die("calloc");
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(atoi(argv[4]))};
    inet_pton(AF_INET, argv[3], &address.sin_addr);
    long patience_us = (long)(atof(argv[7]) * 1000) + 600000;
    struct timeval patience = {patience_us / 1000000, patience_us % 1000000};

    receiver = socket_in(argv[2], SOF_TIMESTAMPING_RX_SOFTWARE | SOF_TIMESTAMPING_SOFTWARE);
    setsockopt(receiver, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    if (bind(receiver, (struct sockaddr *)&address, sizeof address) != 0)
        die("bind");
    sender = socket_in(argv[1], SOF_TIMESTAMPING_TX_SOFTWARE | SOF_TIMESTAMPING_SOFTWARE |
                                    SOF_TIMESTAMPING_OPT_ID | SOF_TIMESTAMPING_OPT_TSONLY);
    if (connect(sender, (struct sockaddr *)&address, sizeof address) != 0)
        die("connect");

    pthread_t thread;
    if (pthread_create(&thread, NULL, receive, NULL) != 0)
        die("pthread_create");
    struct sched_param priority = {.sched_priority = SENDER_PRIORITY};
    if (sched_setscheduler(0, SCHED_FIFO, &priority) != 0)
        fprintf(stderr, "the sender keeps ordinary priority: %s\n", strerror(errno));
    send_all(atof(argv[5]));
    pthread_join(thread, NULL);
    take_sent_stamps();
    for (long i = 0; i < count; i++)
        printf("%ld %lld %lld\n", i, sent_ns[i], received_ns[i]);
    return 0;
}
