/*
 * The floor for live capture: a TPACKET_V3 ring and a flow table, nothing else.
 *
 *     reader INTERFACE THREADS
 *
 * Reads until SIGTERM or SIGINT, then prints the packets and bytes that it saw, the flows, and what the kernel dropped.
 * Several threads share the packets by PACKET_FANOUT.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "../floors/flow_table.h"

#define BLOCK (1u << 20)
#define RING (64u << 20)
#define MOST_THREADS 16

static volatile sig_atomic_t stopping;

struct worker {
    pthread_t thread;
    int socket;
    uint8_t *ring;
    unsigned blocks;
    struct flow_table table;
    unsigned dropped;
};

static void stop(int signal)
{
    (void)signal;
    stopping = 1;
}

static void fail(const char *what)
{
    perror(what);
    exit(2);
}

static void open_ring(struct worker *worker, int interface, unsigned threads)
{
    int version = TPACKET_V3, one = 1, fanout = (getpid() & 0xffff) | PACKET_FANOUT_HASH << 16;
    worker->blocks = RING / BLOCK / threads;
    size_t ring = (size_t)worker->blocks * BLOCK;
    struct tpacket_req3 request = {
        .tp_block_size = BLOCK,
        .tp_block_nr = worker->blocks,
        .tp_frame_size = 2048,
        .tp_frame_nr = (unsigned)(ring / 2048),
        .tp_retire_blk_tov = 20,
    };
    struct packet_mreq promiscuous = {.mr_ifindex = interface, .mr_type = PACKET_MR_PROMISC};
    struct sockaddr_ll address = {
        .sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_ALL), .sll_ifindex = interface};

    worker->socket = socket(AF_PACKET, SOCK_RAW, 0);
    if (worker->socket < 0)
        fail("packet socket");
    if (setsockopt(worker->socket, SOL_PACKET, PACKET_VERSION, &version, sizeof version) < 0 ||
        setsockopt(worker->socket, SOL_PACKET, PACKET_IGNORE_OUTGOING, &one, sizeof one) < 0 ||
        setsockopt(worker->socket, SOL_PACKET, PACKET_RX_RING, &request, sizeof request) < 0)
        fail("ring");
    worker->ring = mmap(NULL, ring, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, worker->socket, 0);
    if (worker->ring == MAP_FAILED)
        fail("mmap");
    flow_table_open(&worker->table);
    if (bind(worker->socket, (struct sockaddr *)&address, sizeof address) < 0)
        fail("bind");
    if (setsockopt(worker->socket, SOL_PACKET, PACKET_ADD_MEMBERSHIP, &promiscuous, sizeof promiscuous) < 0)
        fail("promiscuous mode");
    if (threads > 1 && setsockopt(worker->socket, SOL_PACKET, PACKET_FANOUT, &fanout, sizeof fanout) < 0)
        fail("PACKET_FANOUT");
}

static void take_block(struct worker *worker, struct tpacket_block_desc *block)
{
    uint8_t *at = (uint8_t *)block + block->hdr.bh1.offset_to_first_pkt;
    for (uint32_t n = block->hdr.bh1.num_pkts; n > 0; n--) {
        struct tpacket3_hdr *packet = (struct tpacket3_hdr *)at;
        flow_count(&worker->table, at + packet->tp_mac, packet->tp_snaplen, packet->tp_len);
        at += packet->tp_next_offset;
    }
}

static void *work(void *argument)
{
    struct worker *worker = argument;
    struct tpacket_stats_v3 statistics = {0};
    struct pollfd wait = {.fd = worker->socket, .events = POLLIN | POLLERR};
    socklen_t length = sizeof statistics;
    unsigned next = 0;

    while (!stopping) {
        struct tpacket_block_desc *block = (struct tpacket_block_desc *)(worker->ring + (size_t)next * BLOCK);
        if (!(__atomic_load_n(&block->hdr.bh1.block_status, __ATOMIC_ACQUIRE) & TP_STATUS_USER)) {
            poll(&wait, 1, 100);
            continue;
        }
        take_block(worker, block);
        __atomic_store_n(&block->hdr.bh1.block_status, TP_STATUS_KERNEL, __ATOMIC_RELEASE);
        next = (next + 1) % worker->blocks;
    }
    if (getsockopt(worker->socket, SOL_PACKET, PACKET_STATISTICS, &statistics, &length) == 0)
        worker->dropped = statistics.tp_drops;
    return NULL;
}

int main(int argc, char **argv)
{
    static struct worker workers[MOST_THREADS];
    struct sigaction action = {.sa_handler = stop};
    unsigned long long packets = 0, bytes = 0, flows = 0, dropped = 0;
    unsigned threads = argc == 3 ? (unsigned)strtoul(argv[2], NULL, 10) : 0;
    int interface = argc == 3 ? (int)if_nametoindex(argv[1]) : 0;

    if (threads < 1 || threads > MOST_THREADS || interface == 0) {
        fprintf(stderr, "usage: reader INTERFACE THREADS\n");
        return 2;
    }
    sigaction(SIGTERM, &action, NULL);
    sigaction(SIGINT, &action, NULL);
    for (unsigned n = 0; n < threads; n++)
        open_ring(&workers[n], interface, threads);
    for (unsigned n = 0; n < threads; n++)
        if (pthread_create(&workers[n].thread, NULL, work, &workers[n]) != 0)
            fail("thread");
    for (unsigned n = 0; n < threads; n++) {
        pthread_join(workers[n].thread, NULL);
        packets += workers[n].table.packets;
        bytes += workers[n].table.bytes;
        flows += workers[n].table.flows;
        dropped += workers[n].dropped;
    }
    printf("%llu packets, %llu bytes, %llu flows, %llu dropped\n", packets, bytes, flows, dropped);
    return 0;
}
