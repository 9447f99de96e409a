/* Sends the frames of a file again and again at a rate.

   packet_sender NAMESPACE INTERFACE FRAMES COUNT RATE busy|asleep QUEUE_NAMESPACE

   COUNT 0 sends until SIGTERM, RATE 0 as fast as can be. Busy: at even times, waiting without sleep, for
   capacity. Asleep: at exponential gaps, sleeping in between, for a load that leaves the core to others.
   Prints the packets sent, the nanoseconds that took, and how many then waited for a verdict in the queues of
   QUEUE_NAMESPACE. */

#include "kernel.h"

#include <math.h>
#include <signal.h>
#include <sys/prctl.h>

static volatile sig_atomic_t stopped;

static void stop(int signal)
{
    (void)signal;
    stopped = 1;
}

static long waiting(int statistics)
{
    char text[4096];
    ssize_t length = pread(statistics, text, sizeof text - 1, 0);
    long sum = 0, one;
    text[length > 0 ? length : 0] = 0;
    for (char *line = strtok(text, "\n"); line; line = strtok(NULL, "\n"))
        if (sscanf(line, "%*d %*d %ld", &one) == 1)
            sum += one;
    return sum;
}

static void wait_until(int64_t due_ns, int sleeps)
{
    struct timespec due = {due_ns / NS_PER_S, due_ns % NS_PER_S};
    if (sleeps)
        clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &due, NULL);
    else
        while (now_ns(CLOCK_MONOTONIC) < due_ns && !stopped)
            ;
}

int main(int argc, char **argv)
{
    if (argc != 8)
        return 2;
    static struct frame frames[MOST_FRAMES];
    size_t kinds = read_frames(argv[3], frames);
    long count = atol(argv[4]), sent = 0;
    double gap_ns = atof(argv[5]) > 0 ? NS_PER_S / atof(argv[5]) : 0;
    int sleeps = strcmp(argv[6], "asleep") == 0;
    int fd = sending_socket(argv[1], argv[2]);
    enter_namespace(argv[7]);
    int statistics = open("/proc/thread-self/net/netfilter/nfnetlink_queue", O_RDONLY | O_CLOEXEC);
    if (statistics < 0)
        die("nfnetlink_queue");
    prctl(PR_SET_TIMERSLACK, 1);
    signal(SIGTERM, stop);
    srand48(1);
    int64_t began_ns = now_ns(CLOCK_MONOTONIC);
    double due_ns = (double)began_ns;
    while (!stopped && (count == 0 || sent < count)) {
        if (gap_ns > 0)
            wait_until((int64_t)due_ns, sleeps);
        due_ns += sleeps ? -log(1 - drand48()) * gap_ns : gap_ns;
        struct frame *frame = frames + (size_t)sent % kinds;
        if (send(fd, frame->octets, frame->length, 0) == (ssize_t)frame->length)
            sent++;
        else if (errno != ENOBUFS && errno != EINTR)
            die("send");
    }
    int64_t took_ns = now_ns(CLOCK_MONOTONIC) - began_ns;
    printf("%ld %lld %ld\n", sent, (long long)took_ns, waiting(statistics));
    return 0;
}
