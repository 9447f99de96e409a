/* How long does a packet take from one interface to another? One packet at a time.

   latency_probe NAMESPACE INTERFACE SINK_NAMESPACE SINK_INTERFACE FRAMES COUNT GAP_US LIMIT_S

   From just before the system call that sends to the kernel's stamp at the sink, in nanoseconds, a line for each
   packet: "NS OCTETS", with the length of the IP packet that arrived, or "-1 0" when none did in 0.2 s. The IPv4
   identification tells the packets apart; the source port tells them from other traffic, in the kernel. The gap
   to the next packet varies between half and one and a half times GAP_US. Ends early when LIMIT_S seconds are over. */

#include "kernel.h"

#include <linux/filter.h>
#include <poll.h>
#include <sys/prctl.h>

#define IP (ETHERNET_BYTES)
#define UDP (ETHERNET_BYTES + 24) /* behind router alert */
#define WAIT_NS 200000000LL

static void only_port(int fd, unsigned port)
{
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_B | BPF_ABS, IP),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 0x46, 0, 3),
        BPF_STMT(BPF_LD | BPF_H | BPF_ABS, UDP),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, port, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, 64),
        BPF_STMT(BPF_RET | BPF_K, 0),
    };
    struct sock_fprog program = {sizeof code / sizeof *code, code};
    if (setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof program) != 0)
        die("SO_ATTACH_FILTER");
}

/* The stamp of the packet with this identification; 0 when none is there now. Others are thrown away. */
static int64_t taken_ns(int fd, unsigned identification, unsigned *octets)
{
    uint8_t frame[64];
    char control[256];
    struct iovec part = {frame, sizeof frame};
    for (;;) {
        struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = control,
                                 .msg_controllen = sizeof control};
        if (recvmsg(fd, &message, MSG_DONTWAIT) < 0)
            return 0;
        if ((unsigned)(frame[IP + 4] << 8 | frame[IP + 5]) != identification)
            continue;
        *octets = (unsigned)(frame[IP + 2] << 8 | frame[IP + 3]);
        for (struct cmsghdr *c = CMSG_FIRSTHDR(&message); c; c = CMSG_NXTHDR(&message, c))
            if (c->cmsg_level == SOL_SOCKET && c->cmsg_type == SO_TIMESTAMPNS) {
                struct timespec *stamp = (struct timespec *)CMSG_DATA(c);
                return stamp->tv_sec * NS_PER_S + stamp->tv_nsec;
            }
    }
}

static void number_frame(uint8_t *frame, unsigned identification)
{
    put_word(frame + IP + 4, identification);
    put_word(frame + IP + 10, 0);
    put_word(frame + IP + 10, (uint16_t)~ones_complement_sum(frame + IP, UDP - IP, 0));
}

int main(int argc, char **argv)
{
    if (argc != 9)
        return 2;
    static struct frame frames[MOST_FRAMES];
    size_t kinds = read_frames(argv[5], frames);
    uint8_t *first = frames->octets + UDP;
    int count = atoi(argv[6]), yes = 1;
    int sender = sending_socket(argv[1], argv[2]);
    int sink = packet_socket(argv[3], argv[4], ETH_P_IP);
    only_port(sink, (unsigned)(first[0] << 8 | first[1]));
    if (setsockopt(sink, SOL_SOCKET, SO_TIMESTAMPNS, &yes, sizeof yes) != 0)
        die("SO_TIMESTAMPNS");
    prctl(PR_SET_TIMERSLACK, 1);
    usleep(100000); /* for 50 ms after the stamps are switched on, they may tell the time of reading */
    srand48(1);
    int64_t end_ns = now_ns(CLOCK_MONOTONIC) + (int64_t)(atof(argv[8]) * NS_PER_S);
    for (int number = 0; number < count && now_ns(CLOCK_MONOTONIC) < end_ns; number++) {
        unsigned octets = 0, identification = (unsigned)(number % 0xFFFF + 1);
        struct frame *frame = frames + (size_t)number % kinds;
        number_frame(frame->octets, identification);
        int64_t sent_ns = now_ns(CLOCK_REALTIME), arrived_ns = 0;
        if (send(sender, frame->octets, frame->length, 0) != (ssize_t)frame->length)
            die("send");
        struct pollfd waits = {.fd = sink, .events = POLLIN};
        while (!(arrived_ns = taken_ns(sink, identification, &octets)) &&
               now_ns(CLOCK_REALTIME) - sent_ns < WAIT_NS)
            poll(&waits, 1, 20);
        printf("%lld %u\n", arrived_ns ? (long long)(arrived_ns - sent_ns) : -1LL, octets);
        usleep((useconds_t)(atof(argv[7]) * (0.5 + drand48())));
    }
    return 0;
}
