/*
 * Sends the packets of a pcap file as fast as the kernel takes them, or at a rate.
 *
 *     sender INTERFACE FILE MBIT SECONDS
 *
 * MBIT is megabits of frames per second, 0 for no limit; after SECONDS it gives up. Frames go past the queueing
 * discipline, many to a system call. One that the kernel refuses is sent again, so all that is said to be sent was
 * handed over. The last line of its output tells packets, bytes, nanoseconds and refusals.
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

int main(int argc, char **argv)
{
    struct mmsghdr messages[BATCH];
    struct iovec parts[BATCH];
    struct stat info;
    int one = 1;

    if (argc != 5) {
        fprintf(stderr, "usage: sender INTERFACE FILE MBIT SECONDS\n");
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
        messages[n].msg_hdr.msg_iov = &parts[n];
        messages[n].msg_hdr.msg_iovlen = 1;
    }
    uint64_t packets = 0, bytes = 0, refused = 0, begin = now();
    size_t at = 24;
    while (at + 16 <= size) {
        unsigned count = 0, sent = 0;
        while (count < BATCH && at + 16 <= size) {
            uint32_t length = load(file + at + 8);
            if (length > size - at - 16) {
                at = size;
                break;
            }
            parts[count].iov_base = file + at + 16;
            parts[count].iov_len = length;
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
        if (passed > limit) {
            fprintf(stderr, "sender: not done after %s s\n", argv[4]);
            return 1;
        }
        while (bytes_per_ns > 0 && (double)bytes > (double)passed * bytes_per_ns)
            passed = now() - begin;
    }
    printf("%llu %llu %llu %llu\n", (unsigned long long)packets, (unsigned long long)bytes,
           (unsigned long long)(now() - begin), (unsigned long long)refused);
    return 0;
}
