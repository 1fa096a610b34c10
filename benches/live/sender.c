/*
 * Sends the packets of a pcap file as fast as the kernel takes them, or at a rate.
 *
 *     sender INTERFACE FILE MBIT SECONDS [repeat]
 *
 * MBIT is megabits of frames per second, 0 for no limit; after SECONDS it gives up. Frames go past the queueing
 * discipline, many to a system call. One that the kernel refuses is sent again, so all that is said to be sent was
 * handed over. The last line of its output tells packets, bytes, nanoseconds, refusals and rounds.
 *
 * With `repeat` it sends the file again and again, each time with other addresses, until SECONDS are over, and ends
 * with the last packet of a round. Where it has to wait, it then sleeps rather than looks at the clock.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define BATCH 128
/* What is copied of a frame to be changed: Ethernet, IPv6, and TCP as far as its checksum. */
#define HEAD 74

static uint64_t now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

static void fail(const char *what)
{
    perror(what);
    exit(2);
}

static uint32_t load(const uint8_t *at)
{
    uint32_t value;
    memcpy(&value, at, 4);
    return value;
}

/* A checksum where one of the words that it covers was `from` and is `to` (RFC 1624). */
static void correct(uint8_t *at, unsigned from, unsigned to)
{
    uint32_t sum = (~(uint32_t)(at[0] << 8 | at[1]) & 0xffff) + (~from & 0xffff) + to;
    sum = (sum & 0xffff) + (sum >> 16);
    sum = ~(sum + (sum >> 16)) & 0xffff;
    at[0] = (uint8_t)(sum >> 8);
    at[1] = (uint8_t)sum;
}

/* Moves both addresses of a frame to networks of this round: 10.20.0.1 becomes 10.21.0.1. */
static void move(uint8_t *frame, unsigned length, unsigned round)
{
    int four = frame[12] == 0x08 && frame[13] == 0x00, six = frame[12] == 0x86 && frame[13] == 0xdd;
    unsigned addresses = four ? 26 : 22, size = four ? 4 : 16, after = four ? 34 : 54;
    if (round == 0 || length < after + 20 || (!four && !six))
        return;
    unsigned protocol = frame[four ? 23 : 20], checksum = protocol == 6 ? after + 16 : protocol == 17 ? after + 6 : 0;
    for (unsigned n = 0; n < 2; n++) {
        /* The second byte of an address of IPv4; of IPv6, the last one of its first half. */
        uint8_t *word = frame + addresses + n * size + (four ? 0 : 6);
        unsigned from = (unsigned)(word[0] << 8 | word[1]);
        word[1] = (uint8_t)(word[1] + round);
        unsigned to = (unsigned)(word[0] << 8 | word[1]);
        if (four)
            correct(frame + 24, from, to);
        /* Of UDP without a checksum, it stays without. */
        if (checksum && (protocol == 6 || frame[checksum] || frame[checksum + 1]))
            correct(frame + checksum, from, to);
    }
}

int main(int argc, char **argv)
{
    static uint8_t heads[BATCH][HEAD];
    struct mmsghdr messages[BATCH];
    struct iovec parts[BATCH][2];
    struct stat info;
    int one = 1;

    int repeat = argc == 6 && strcmp(argv[5], "repeat") == 0;
    if (argc != 5 && !repeat) {
        fprintf(stderr, "usage: sender INTERFACE FILE MBIT SECONDS [repeat]\n");
        return 2;
    }
    double bytes_per_ns = strtod(argv[3], NULL) / 8000;
    uint64_t limit = strtoull(argv[4], NULL, 10) * 1000000000u;

    int fd = open(argv[2], O_RDONLY);
    if (fd < 0 || fstat(fd, &info) < 0)
        fail(argv[2]);
    size_t size = (size_t)info.st_size;
    uint8_t *file = mmap(NULL, size, PROT_READ, MAP_PRIVATE | MAP_POPULATE, fd, 0);
    if (file == MAP_FAILED)
        fail("mmap");

    int out = socket(AF_PACKET, SOCK_RAW, 0);
    if (out < 0)
        fail("packet socket");
    if (setsockopt(out, SOL_PACKET, PACKET_QDISC_BYPASS, &one, sizeof one) < 0)
        fail("PACKET_QDISC_BYPASS");
    struct sockaddr_ll address = {.sll_family = AF_PACKET, .sll_ifindex = (int)if_nametoindex(argv[1])};
    if (address.sll_ifindex == 0 || bind(out, (struct sockaddr *)&address, sizeof address) < 0)
        fail(argv[1]);

    memset(messages, 0, sizeof messages);
    for (int n = 0; n < BATCH; n++) {
        messages[n].msg_hdr.msg_iov = parts[n];
        messages[n].msg_hdr.msg_iovlen = 2;
    }
    uint64_t packets = 0, bytes = 0, refused = 0, begin = now();
    size_t at = 24;
    unsigned round = 0;
    while (at + 16 <= size) {
        unsigned count = 0, sent = 0;
        while (count < BATCH && at + 16 <= size) {
            uint32_t length = load(file + at + 8);
            if (length > size - at - 16) {
                at = size;
                break;
            }
            unsigned head = !repeat ? 0 : length < HEAD ? length : HEAD;
            memcpy(heads[count], file + at + 16, head);
            move(heads[count], head, round);
            parts[count][0] = (struct iovec){.iov_base = heads[count], .iov_len = head};
            parts[count][1] = (struct iovec){.iov_base = file + at + 16 + head, .iov_len = length - head};
            bytes += length;
            at += 16 + length;
            count++;
        }
        while (sent < count) {
            int taken = sendmmsg(out, messages + sent, count - sent, 0);
            if (taken > 0) {
                sent += (unsigned)taken;
                continue;
            }
            if (errno != ENOBUFS && errno != EAGAIN && errno != EINTR)
                fail("sendmmsg");
            refused++;
            if (now() - begin > limit)
                break;
        }
        packets += sent;
        uint64_t passed = now() - begin;
        if (passed > limit && !repeat) {
            fprintf(stderr, "sender: not done after %s s\n", argv[4]);
            return 1;
        }
        while (bytes_per_ns > 0 && (double)bytes > (double)passed * bytes_per_ns) {
            if (repeat)
                nanosleep(&(struct timespec){.tv_nsec = 50000}, NULL);
            passed = now() - begin;
        }
        if (at + 16 > size) {
            round++;
            if (repeat && passed < limit)
                at = 24;
        }
    }
    printf("%llu %llu %llu %llu %u\n", (unsigned long long)packets, (unsigned long long)bytes,
           (unsigned long long)(now() - begin), (unsigned long long)refused, round);
    return 0;
}
