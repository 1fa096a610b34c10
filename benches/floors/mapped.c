/* The floor for reading a file: headers from a mapped pcap file, a flow table, nothing else. */
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "flow_table.h"

int main(int argc, char **argv)
{
    struct flow_table table;
    struct stat info;

    if (argc != 2) {
        fprintf(stderr, "usage: mapped FILE\n");
        return 2;
    }
    int fd = open(argv[1], O_RDONLY);
    if (fd < 0 || fstat(fd, &info) < 0) {
        perror(argv[1]);
        return 2;
    }
    size_t size = (size_t)info.st_size;
    const uint8_t *file = mmap(NULL, size, PROT_READ, MAP_PRIVATE, fd, 0);
    if (file == MAP_FAILED) {
        perror("mmap");
        return 2;
    }
    madvise((void *)file, size, MADV_SEQUENTIAL);
    flow_table_open(&table);
    for (size_t at = 24; at + 16 <= size;) {
        uint32_t captured = (uint32_t)flow_load(file + at + 8, 4);
        uint32_t length = (uint32_t)flow_load(file + at + 12, 4);
        if (captured > size - at - 16)
            break;
        flow_count(&table, file + at + 16, captured, length);
        at += 16 + captured;
    }
    printf("%llu packets, %llu bytes, %llu flows\n", (unsigned long long)table.packets,
           (unsigned long long)table.bytes, (unsigned long long)table.flows);
    return 0;
}
