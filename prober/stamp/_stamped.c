/* Reads and sends datagrams of a stamped socket (prober/stamp/stamped_socket.py) without the objects that Python's own
 * socket module makes on the way. What is read is the same; whatever is no datagram or no stamp is left to that module.
 */

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

#include <linux/errqueue.h>

#define MAX_DATAGRAM_BYTES 2048 /* as in stamped_socket.py, like the next one */
#define ANCILLARY_BYTES 256
#define SO_TIMESTAMPING_OLD 37
#define NS_PER_S 1000000000LL

typedef union {
    char octets[ANCILLARY_BYTES];
    struct cmsghdr aligned;
} Ancillary;

static int64_t stamp_ns(const struct cmsghdr *one)
{
    struct timespec software;
    memcpy(&software, CMSG_DATA(one), sizeof software);
    return (int64_t)software.tv_sec * NS_PER_S + software.tv_nsec;
}

static int int_of(const struct cmsghdr *one)
{
    int value;
    memcpy(&value, CMSG_DATA(one), sizeof value);
    return value;
}

static PyObject *address_text(struct in_addr address)
{
    char text[INET_ADDRSTRLEN];
    return PyUnicode_FromString(inet_ntop(AF_INET, &address, text, sizeof text));
}

static PyObject *or_none(int is_there, long long value)
{
    if (is_there)
        return PyLong_FromLongLong(value);
    Py_RETURN_NONE;
}

PyDoc_STRVAR(receive_doc,
             "receive(fd) -> (data, address, port, ttl, stamp_ns, tos, local_address) | None\n\n"
             "The next datagram; ttl and stamp_ns are None when the kernel did not tell them.");

static PyObject *receive(PyObject *Py_UNUSED(module), PyObject *argument)
{
    int fd = PyLong_AsLong(argument);
    if (fd == -1 && PyErr_Occurred())
        return NULL;
    char data[MAX_DATAGRAM_BYTES];
    Ancillary ancillary;
    struct sockaddr_in source = {0};
    struct iovec vector = {data, sizeof data};
    struct msghdr message = {.msg_name = &source,
                             .msg_namelen = sizeof source,
                             .msg_iov = &vector,
                             .msg_iovlen = 1,
                             .msg_control = ancillary.octets,
                             .msg_controllen = sizeof ancillary.octets};
    ssize_t length = recvmsg(fd, &message, MSG_DONTWAIT);
    if (length < 0) /* none there, or an ICMP error of an earlier packet: both leave nothing to read */
        Py_RETURN_NONE;
    int64_t at_ns = 0;
    int ttl = -1, tos = 0;
    struct in_addr local;
    int has_local = 0;
    for (struct cmsghdr *one = CMSG_FIRSTHDR(&message); one; one = CMSG_NXTHDR(&message, one)) {
        if (one->cmsg_level == SOL_SOCKET && one->cmsg_type == SO_TIMESTAMPING_OLD) {
            at_ns = stamp_ns(one);
        } else if (one->cmsg_level == IPPROTO_IP && one->cmsg_type == IP_TTL) {
            ttl = int_of(one);
        } else if (one->cmsg_level == IPPROTO_IP && one->cmsg_type == IP_TOS) {
            tos = *(unsigned char *)CMSG_DATA(one);
        } else if (one->cmsg_level == IPPROTO_IP && one->cmsg_type == IP_PKTINFO) {
            struct in_pktinfo information;
            memcpy(&information, CMSG_DATA(one), sizeof information);
            local = information.ipi_spec_dst;
            has_local = 1;
        }
    }
    return Py_BuildValue("(y#NiNNiN)", data, (Py_ssize_t)length, address_text(source.sin_addr), ntohs(source.sin_port),
                         or_none(ttl >= 0, ttl), or_none(at_ns != 0, at_ns), tos,
                         has_local ? address_text(local) : Py_NewRef(Py_None));
}

PyDoc_STRVAR(departure_doc,
             "departure(fd) -> (key, stamp_ns) | None\n\n"
             "The next entry of the error queue; each part is None where it is not that of a transmit stamp.");

static PyObject *departure(PyObject *Py_UNUSED(module), PyObject *argument)
{
    int fd = PyLong_AsLong(argument);
    if (fd == -1 && PyErr_Occurred())
        return NULL;
    Ancillary ancillary;
    struct msghdr message = {.msg_control = ancillary.octets, .msg_controllen = sizeof ancillary.octets};
    if (recvmsg(fd, &message, MSG_ERRQUEUE | MSG_DONTWAIT) < 0)
        Py_RETURN_NONE;
    int64_t at_ns = 0;
    uint32_t key = 0;
    int has_key = 0;
    for (struct cmsghdr *one = CMSG_FIRSTHDR(&message); one; one = CMSG_NXTHDR(&message, one)) {
        if (one->cmsg_level == SOL_SOCKET && one->cmsg_type == SO_TIMESTAMPING_OLD) {
            at_ns = stamp_ns(one);
        } else if (one->cmsg_level == IPPROTO_IP && one->cmsg_type == IP_RECVERR) {
            struct sock_extended_err error;
            memcpy(&error, CMSG_DATA(one), sizeof error);
            has_key = error.ee_origin == SO_EE_ORIGIN_TIMESTAMPING;
            key = error.ee_data;
        }
    }
    return Py_BuildValue("(NN)", or_none(has_key, key), or_none(at_ns != 0, at_ns));
}

PyDoc_STRVAR(send_doc, "send(fd, data, address, port) -> bool\n\nSend to an IPv4 address; False when the kernel refuses.");

static PyObject *send_to(PyObject *Py_UNUSED(module), PyObject *const *arguments, Py_ssize_t count)
{
    struct sockaddr_in target = {.sin_family = AF_INET};
    if (count != 4 || !PyBytes_Check(arguments[1])) {
        PyErr_SetString(PyExc_TypeError, "send(fd, data, address, port)");
        return NULL;
    }
    int fd = PyLong_AsLong(arguments[0]);
    const char *address = PyUnicode_AsUTF8(arguments[2]);
    long port = PyLong_AsLong(arguments[3]);
    if (!address || PyErr_Occurred())
        return NULL;
    if (port < 0 || port > UINT16_MAX || inet_pton(AF_INET, address, &target.sin_addr) != 1) {
        PyErr_SetString(PyExc_ValueError, "an IPv4 address and a port");
        return NULL;
    }
    target.sin_port = htons((uint16_t)port);
    ssize_t sent = sendto(fd, PyBytes_AS_STRING(arguments[1]), PyBytes_GET_SIZE(arguments[1]), MSG_DONTWAIT,
                          (struct sockaddr *)&target, sizeof target);
    return PyBool_FromLong(sent >= 0);
}

static PyMethodDef methods[] = {
    {"receive", receive, METH_O, receive_doc},
    {"departure", departure, METH_O, departure_doc},
    {"send", (PyCFunction)(void (*)(void))send_to, METH_FASTCALL, send_doc},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef module = {
    PyModuleDef_HEAD_INIT, .m_name = "prober.stamp._stamped", .m_size = 0, .m_methods = methods};

PyMODINIT_FUNC PyInit__stamped(void) { return PyModule_Create(&module); }
