/* The least that a userspace VPN with offloads does, and no more:
 *
 *     copier INTERFACE OUR_IPV4 THEIR_IPV4 PORT none|aes
 *
 * Super-packets go from a TUN device to a UDP socket (UDP_SEGMENT) and back (UDP_GRO), one system call each way for
 * 64 kB. With `aes` each is sealed by AES-256-GCM, one record for all of it, in place. No handshake, no peers, no replay
 * window, no loss handled but by forgetting a packet, and the key is known to all: it is a ruler, not a VPN. What it
 * reaches on a machine, no program can exceed there that goes the same way.
 *
 * Kernel: linux/if_tun.h, linux/virtio_net.h (10 bytes before each packet, carried along), linux/udp.h.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <linux/udp.h>
#include <openssl/evp.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

enum {
    DATAGRAM = 1448,     /* bytes in each; with IPv4, UDP and room to spare below an MTU of 1500 */
    TURN = 64,           /* packets of one side before the other has its turn */
    ROOM = 1 << 17,      /* twice the longest packet: a piece can follow the rest of another */
    BUFFER = 8 << 20,    /* of the socket, as our own has */
    TAG = 16,
    MAGIC = 0x5aa5c33c,
};

struct header {
    uint32_t magic, length; /* of what follows, without the tag */
    uint64_t number;
};

static EVP_CIPHER_CTX *cipher[2]; /* to open, to seal; none: copy */
static _Alignas(struct header) uint8_t coming[ROOM], going[ROOM];
static size_t gathered; /* bytes of a packet that GRO brings in pieces */

static void need(int holds, const char *what)
{
    if (!holds) {
        perror(what);
        exit(1);
    }
}

/* Seal or open a record in place; the tag follows it. Returns whether it is authentic. */
static int transform(int seal, struct header *record)
{
    EVP_CIPHER_CTX *context = cipher[seal];
    uint8_t nonce[12] = {0}, *body = (uint8_t *)(record + 1), *tag = body + record->length;
    int length;

    if (!context)
        return 1;
    memcpy(nonce, &record->number, sizeof record->number);
    EVP_CipherInit_ex(context, NULL, NULL, NULL, nonce, seal);
    if (!seal)
        EVP_CIPHER_CTX_ctrl(context, EVP_CTRL_AEAD_SET_TAG, TAG, tag);
    EVP_CipherUpdate(context, NULL, &length, (uint8_t *)record, sizeof *record);
    EVP_CipherUpdate(context, body, &length, body, record->length);
    if (EVP_CipherFinal_ex(context, tag, &length) != 1)
        return 0;
    if (seal)
        EVP_CIPHER_CTX_ctrl(context, EVP_CTRL_AEAD_GET_TAG, TAG, tag);
    return 1;
}

static void send_packets(int tun, int udp)
{
    static uint64_t number;
    struct header *record = (struct header *)going;

    for (int turn = 0; turn < TURN; turn++) {
        char control[CMSG_SPACE(sizeof(uint16_t))] = {0};
        struct iovec iov = {.iov_base = going};
        struct msghdr message = {.msg_iov = &iov, .msg_iovlen = 1};
        ssize_t length = read(tun, record + 1, sizeof going - sizeof *record - TAG);

        if (length < 0)
            return;
        *record = (struct header){MAGIC, length, number++};
        transform(1, record);
        iov.iov_len = sizeof *record + length + TAG;
        if (iov.iov_len > DATAGRAM) {
            struct cmsghdr *segment = (struct cmsghdr *)control;
            segment->cmsg_level = IPPROTO_UDP;
            segment->cmsg_type = UDP_SEGMENT;
            segment->cmsg_len = CMSG_LEN(sizeof(uint16_t));
            *(uint16_t *)CMSG_DATA(segment) = DATAGRAM;
            message.msg_control = control;
            message.msg_controllen = sizeof control;
        }
        need(sendmsg(udp, &message, 0) >= 0 || errno == EAGAIN || errno == ECONNREFUSED, "sendmsg");
    }
}

static void receive_packets(int tun, int udp)
{
    struct header *record = (struct header *)coming;

    for (int turn = 0; turn < TURN; turn++) {
        struct header *next = (struct header *)(coming + gathered);
        ssize_t length = recv(udp, next, ROOM - gathered, 0);

        if (length < 0)
            return;
        if (gathered && length >= (ssize_t)sizeof *next && next->magic == MAGIC) { /* the rest of the last is lost */
            memmove(coming, next, length);
            gathered = 0;
        }
        gathered += length;
        if (gathered < sizeof *record || record->magic != MAGIC || record->length > ROOM / 2) {
            gathered = 0;
            continue;
        }
        if (gathered < sizeof *record + record->length + TAG)
            continue;
        if (transform(0, record))
            need(write(tun, record + 1, record->length) >= 0 || errno == EINVAL || errno == EAGAIN, "write");
        gathered = 0;
    }
}

static int open_tun(const char *name)
{
    struct ifreq wish = {.ifr_flags = IFF_TUN | IFF_NO_PI | IFF_VNET_HDR};
    int tun = open("/dev/net/tun", O_RDWR | O_NONBLOCK);

    strncpy(wish.ifr_name, name, sizeof wish.ifr_name - 1);
    need(tun >= 0, "/dev/net/tun");
    need(!ioctl(tun, TUNSETIFF, &wish), "TUNSETIFF");
    need(!ioctl(tun, TUNSETOFFLOAD, TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6), "TUNSETOFFLOAD");
    return tun;
}

static int open_udp(const char *ours, const char *theirs, uint16_t port)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
    int udp = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK, 0), on = 1, buffer = BUFFER;

    need(!setsockopt(udp, SOL_SOCKET, SO_SNDBUFFORCE, &buffer, sizeof buffer), "SO_SNDBUFFORCE");
    need(!setsockopt(udp, SOL_SOCKET, SO_RCVBUFFORCE, &buffer, sizeof buffer), "SO_RCVBUFFORCE");
    need(!setsockopt(udp, IPPROTO_UDP, UDP_GRO, &on, sizeof on), "UDP_GRO");
    need(inet_pton(AF_INET, ours, &address.sin_addr) == 1, ours);
    need(!bind(udp, (struct sockaddr *)&address, sizeof address), "bind");
    need(inet_pton(AF_INET, theirs, &address.sin_addr) == 1, theirs);
    need(!connect(udp, (struct sockaddr *)&address, sizeof address), "connect");
    return udp;
}

int main(int count, char **words)
{
    static const uint8_t key[32] = "a ruler, not a VPN: known to all";

    if (count != 6) {
        fprintf(stderr, "usage: copier INTERFACE OUR_IPV4 THEIR_IPV4 PORT none|aes\n");
        return 2;
    }
    for (int seal = 0; seal < 2 && !strcmp(words[5], "aes"); seal++) {
        cipher[seal] = EVP_CIPHER_CTX_new();
        need(EVP_CipherInit_ex(cipher[seal], EVP_aes_256_gcm(), NULL, key, NULL, seal), "AES-256-GCM");
    }
    struct pollfd sides[] = {
        {.fd = open_tun(words[1]), .events = POLLIN},
        {.fd = open_udp(words[2], words[3], atoi(words[4])), .events = POLLIN},
    };
    for (;;) {
        need(poll(sides, 2, -1) >= 0 || errno == EINTR, "poll");
        if (sides[0].revents)
            send_packets(sides[0].fd, sides[1].fd);
        if (sides[1].revents)
            receive_packets(sides[0].fd, sides[1].fd);
    }
}
