/* SPDX-License-Identifier: MIT */
/*
 * garbage TASK, then azpar-worker's arguments: a worker that has gone mad, for the end-to-end tests.  Its
 * heart beats and it obeys "stop", but what it writes into its lane is
 *
 *   noise      well-framed records of random bytes, as fast as the lane takes them
 *   checksum   records whose checksum is wrong
 *   length     a record that claims to be 4 GiB long
 *   tail       an index far beyond the lane: 8 bytes before 64 bits end, so that whoever comes next crosses
 * that end
 */
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "common/base/clock.h"
#include "common/base/rng.h"
#include "common/exchange/segment.h"

struct mad {
        struct segment *segment;
        unsigned slot;
        int wake_fd;
        struct rng rng;
};

/* Random bytes of a random length, framed as a record; with a wrong checksum if @spoil. Return: false if
 * full. */
static bool write_noise(struct mad *m, bool spoil) {
        struct lane *l = &m->segment->lanes[m->slot];
        uint64_t at = atomic_load_explicit(&l->shared->tail, memory_order_relaxed);
        unsigned char noise[512];
        uint32_t n = rng_below(&m->rng, sizeof(noise) + 1);

        for (uint32_t i = 0; i < n; i++)
                noise[i] = (unsigned char) rng_u64(&m->rng);
        if (!spoil)
                return lane_write(l, noise, n) == 0;
        if (lane_used(l) + lane_record_bytes(n) > l->size)
                return false;
        for (uint32_t i = 0; i < LANE_HEADER_BYTES; i++)
                l->data[(at + i) & (l->size - 1)] = i < 4 ? (unsigned char) (n >> (8 * i)) : 0xa5;
        atomic_store_explicit(&l->shared->tail, at + lane_record_bytes(n), memory_order_release);
        return true;
}

static void break_lane(struct mad *m, bool by_length) {
        struct lane *l = &m->segment->lanes[m->slot];
        uint64_t at = atomic_load_explicit(&l->shared->tail, memory_order_relaxed);

        for (uint32_t i = 0; by_length && i < LANE_HEADER_BYTES; i++)
                l->data[(at + i) & (l->size - 1)] = 0xff;
        if (by_length)
                at += 64;
        else
                at = at == UINT64_MAX - 7 ? at - (UINT64_C(1) << 40)
                                          : UINT64_MAX - 7; /* not where it stands already */
        atomic_store_explicit(&l->shared->tail, at, memory_order_release);
}

static void run(struct mad *m, const char *task) {
        bool broken = false;

        while (atomic_load_explicit(&m->segment->header->stop, memory_order_acquire) == 0) {
                atomic_store_explicit(&m->segment->workers[m->slot]->heartbeat_ns, clock_now_ns(),
                                      memory_order_relaxed);
                if (strcmp(task, "length") == 0 || strcmp(task, "tail") == 0) {
                        if (!broken)
                                break_lane(m, strcmp(task, "length") == 0);
                        broken = true;
                        segment_wake_consumer(m->segment, m->wake_fd);
                        clock_sleep_ns(NS_PER_MS);
                        continue;
                }
                if (!write_noise(m, strcmp(task, "checksum") == 0))
                        clock_sleep_ns(NS_PER_MS);
                segment_wake_consumer(m->segment, m->wake_fd);
        }
}

int main(int argc, char **argv) {
        static const struct option options[] = {
                { "slot", required_argument, NULL, 's' },
                { "incarnation", required_argument, NULL, 'i' },
                { "config-fd", required_argument, NULL, 'c' },
                { "segment-fd", required_argument, NULL, 'g' },
                { "state-fd", required_argument, NULL, 'd' },
                { "wake-fd", required_argument, NULL, 'w' },
                { NULL, 0, NULL, 0 },
        };
        struct error e = ERROR_INIT;
        struct mad m = { .wake_fd = -1 };
        int o, fd = -1;

        while ((o = getopt_long(argc, argv, "", options, NULL)) >= 0) {
                if (o == 's')
                        m.slot = (unsigned) atoi(optarg);
                if (o == 'g')
                        fd = atoi(optarg);
                if (o == 'w')
                        m.wake_fd = atoi(optarg);
        }
        if (optind >= argc || segment_map_worker(fd, m.slot, &m.segment, &e) < 0) {
                (void) fprintf(stderr, "garbage: %s\n", e.text);
                return 1;
        }
        rng_seed(&m.rng, clock_now_ns(), m.slot);
        run(&m, argv[optind]);
        segment_free(m.segment);
        return 0;
}
