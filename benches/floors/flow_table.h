/*
 * The least that a sensor does with a packet: find its addresses and ports, look its flow up, count.
 * Both directions of a connection are one entry. The table doubles when it is half full.
 */
#ifndef FLOW_TABLE_H
#define FLOW_TABLE_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FLOW_FIRST_SLOTS (1u << 16)

struct flow {
    uint64_t key;
    uint32_t packets;
    uint32_t reserved;
    uint64_t bytes;
    uint32_t next[2];
};

struct flow_table {
    struct flow *slots;
    uint64_t mask;
    uint64_t packets, bytes, flows, other;
};

static struct flow *flow_slots(uint64_t count)
{
    struct flow *slots = calloc(count, sizeof *slots);
    if (!slots) {
        perror("flow table");
        exit(2);
    }
    return slots;
}

static void flow_table_open(struct flow_table *table)
{
    memset(table, 0, sizeof *table);
    table->mask = FLOW_FIRST_SLOTS - 1;
    table->slots = flow_slots(FLOW_FIRST_SLOTS);
}

static void flow_table_grow(struct flow_table *table)
{
    uint64_t mask = table->mask * 2 + 1;
    struct flow *slots = flow_slots(mask + 1);
    for (uint64_t n = 0; n <= table->mask; n++) {
        uint64_t place = table->slots[n].key & mask;
        if (table->slots[n].key == 0)
            continue;
        while (slots[place].key != 0)
            place = (place + 1) & mask;
        slots[place] = table->slots[n];
    }
    free(table->slots);
    table->slots = slots;
    table->mask = mask;
}

static inline uint64_t flow_mix(uint64_t x)
{
    x ^= x >> 32;
    x *= 0xd6e8feb86659fd93u;
    x ^= x >> 32;
    x *= 0xd6e8feb86659fd93u;
    return x ^ x >> 32;
}

static inline uint64_t flow_load(const uint8_t *at, unsigned length)
{
    uint64_t value = 0;
    memcpy(&value, at, length);
    return value;
}

/* Counts an Ethernet frame of which `captured` bytes are at hand. */
static inline void flow_count(struct flow_table *table, const uint8_t *frame, uint32_t captured, uint32_t length)
{
    uint64_t source, destination;
    const uint8_t *transport;
    uint8_t protocol;

    table->packets++;
    table->bytes += length;
    if (captured < 42) {
        table->other++;
        return;
    }
    uint16_t kind = (uint16_t)(frame[12] << 8 | frame[13]);
    if (kind == 0x0800) {
        unsigned header = (frame[14] & 15u) * 4;
        if (captured < 14 + header + 8) {
            table->other++;
            return;
        }
        protocol = frame[23];
        source = flow_mix(flow_load(frame + 26, 4));
        destination = flow_mix(flow_load(frame + 30, 4));
        transport = frame + 14 + header;
    } else if (kind == 0x86dd && captured >= 62) {
        protocol = frame[20];
        source = flow_mix(flow_load(frame + 22, 8) ^ flow_mix(flow_load(frame + 30, 8)));
        destination = flow_mix(flow_load(frame + 38, 8) ^ flow_mix(flow_load(frame + 46, 8)));
        transport = frame + 54;
    } else {
        table->other++;
        return;
    }
    if (protocol != 6 && protocol != 17) {
        table->other++;
        return;
    }
    /* Addition does not mind which end comes first. */
    uint64_t first = flow_mix(source + flow_load(transport, 2));
    uint64_t second = flow_mix(destination + flow_load(transport + 2, 2));
    uint64_t key = flow_mix(first + second + protocol);
    if (key == 0)
        key = 1;
    if (table->flows > table->mask / 2)
        flow_table_grow(table);
    uint64_t place = key & table->mask;
    for (;;) {
        struct flow *flow = &table->slots[place];
        if (flow->key == 0) {
            flow->key = key;
            table->flows++;
        }
        if (flow->key == key) {
            flow->packets++;
            flow->bytes += length;
            if (protocol == 6 && (uint32_t)(transport - frame) + 20 <= captured)
                flow->next[first < second] = (uint32_t)flow_load(transport + 4, 4);
            return;
        }
        place = (place + 1) & table->mask;
    }
}

#endif
