/* Sends frames at a rate, or as fast as one core can.

   flood_sender NAMESPACE INTERFACE FRAMES SECONDS RATE CORE

   FRAMES holds one frame after the other, each behind its length in two octets; they are sent in turn, again and
   again, in batches; RATE 0 is without a pause. Prints how many were sent, the nanoseconds that took, and those of processor time: what a packet costs
   all the way through veth pairs and routers, up to where it waits for another process. */

#include "kernel.h"

#include <sys/stat.h>

#define BATCH 32
#define MOST_REQUESTS 65536

static struct iovec requests[MOST_REQUESTS];

static size_t read_requests(const char *path)
{
    struct stat state;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &state) != 0)
        die(path);
    size_t length = (size_t)state.st_size, count = 0;
    uint8_t *octets = malloc(length);
    if (!octets || read(fd, octets, length) != state.st_size)
        die(path);
    close(fd);
    for (size_t at = 0; at + 2 < length && count < MOST_REQUESTS; count++) {
        requests[count].iov_len = (size_t)(octets[at] << 8 | octets[at + 1]);
        requests[count].iov_base = octets + at + 2;
        at += 2 + requests[count].iov_len;
    }
    return count;
}

int main(int argc, char **argv)
{
    if (argc != 7)
        return 2;
    size_t count = read_requests(argv[3]), next = 0;
    if (count == 0)
        return 2;
    cpu_set_t cores;
    CPU_ZERO(&cores);
    CPU_SET(atoi(argv[6]), &cores);
    if (sched_setaffinity(0, sizeof cores, &cores) != 0)
        die("sched_setaffinity");
    int fd = sending_socket(argv[1], argv[2]);
    struct mmsghdr batch[BATCH];
    memset(batch, 0, sizeof batch);
    double gap_ns = atof(argv[5]) > 0 ? BATCH * (double)NS_PER_S / atof(argv[5]) : 0, due_ns = 0;
    long sent = 0;
    int64_t began_ns = now_ns(CLOCK_MONOTONIC), end_ns = began_ns + (int64_t)(atof(argv[4]) * NS_PER_S), at_ns;
    while ((at_ns = now_ns(CLOCK_MONOTONIC)) < end_ns) {
        struct timespec due = {(began_ns + (int64_t)due_ns) / NS_PER_S, (began_ns + (int64_t)due_ns) % NS_PER_S};
        if (gap_ns > 0 && clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &due, NULL) != 0)
            continue;
        due_ns += gap_ns;
        for (int i = 0; i < BATCH; i++, next = (next + 1) % count) {
            batch[i].msg_hdr.msg_iov = &requests[next];
            batch[i].msg_hdr.msg_iovlen = 1;
        }
        int taken = sendmmsg(fd, batch, BATCH, 0);
        if (taken > 0)
            sent += taken;
        else if (errno != ENOBUFS && errno != EINTR)
            die("sendmmsg");
    }
    printf("%ld %lld %lld\n", sent, (long long)(at_ns - began_ns), (long long)now_ns(CLOCK_PROCESS_CPUTIME_ID));
    return 0;
}
