/* libpcap's own loop over a file: pcap_dispatch, counting bytes. */
#include <pcap/pcap.h>
#include <stdint.h>
#include <stdio.h>

static void count(u_char *user, const struct pcap_pkthdr *header, const u_char *bytes)
{
    uint64_t *sums = (uint64_t *)user;

    (void)bytes;
    sums[0]++;
    sums[1] += header->len;
}

int main(int argc, char **argv)
{
    char problem[PCAP_ERRBUF_SIZE];
    uint64_t sums[2] = {0, 0};
    int packets;

    if (argc != 2) {
        fprintf(stderr, "usage: dispatch FILE\n");
        return 2;
    }
    pcap_t *capture = pcap_open_offline(argv[1], problem);
    if (!capture) {
        fprintf(stderr, "%s\n", problem);
        return 2;
    }
    while ((packets = pcap_dispatch(capture, -1, count, (u_char *)sums)) > 0)
        ;
    if (packets < 0) {
        fprintf(stderr, "%s\n", pcap_geterr(capture));
        return 2;
    }
    printf("%llu packets, %llu bytes\n", (unsigned long long)sums[0], (unsigned long long)sums[1]);
    pcap_close(capture);
    return 0;
}
