/* SPDX-License-Identifier: MIT */
/*
 * How fast batch files are read: azpar's reader beside simdjson (On-Demand) and RapidJSON (SAX), on the same
 * text in memory, one thread.
 *
 * The libraries only parse and add the numbers up; azpar's reader also checks them against the game, finds
 * the visits again and, in a spilled file, works out each sample's checksum.  Rows "metric<TAB>value", MB per
 * second of CPU time, the median of rounds in which all take turns.  Compiled for this machine (see the
 * Makefile), which azpar itself is not: simdjson looks for structure with the best that the CPU has anyway,
 * but what On-Demand inlines is fixed by the compiler.
 *
 *   bench-json [MEGABYTES [ROUNDS]]
 */
#ifdef __SSE4_2__
#define RAPIDJSON_SSE42
#endif
#include "tests/bench/json-azpar.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <string>
#include <vector>
#include <rapidjson/reader.h>
#include <simdjson.h>

namespace od = simdjson::ondemand;

static json_totals read_simdjson(const char *text, size_t n) {
        static od::parser parser;
        json_totals t = {};
        od::document document =
                parser.iterate(simdjson::padded_string_view(text, n, n + simdjson::SIMDJSON_PADDING));

        for (od::object sample : document.get_array()) {
                for (double x : sample.find_field("board").get_array())
                        t.board += x;
                for (double x : sample.find_field("policy").get_array())
                        t.policy += x;
                t.value += sample.find_field("value").get_double();
                t.n_samples++;
        }
        return t;
}

/* Takes the keys board, policy and value of the outer objects, and passes over all else. */
struct sax : rapidjson::BaseReaderHandler<rapidjson::UTF8<>, sax> {
        json_totals t = {};
        unsigned depth = 0;
        double other = 0, *sum = &other;

        bool Double(double x) {
                *sum += x;
                return true;
        }
        bool Int(int x) {
                return Double(x);
        }
        bool Uint(unsigned x) {
                return Double(x);
        }
        bool Int64(int64_t x) {
                return Double(static_cast<double>(x));
        }
        bool Uint64(uint64_t x) {
                return Double(static_cast<double>(x));
        }
        bool StartObject() {
                t.n_samples += depth++ == 0;
                return true;
        }
        bool EndObject(rapidjson::SizeType) {
                depth--;
                return true;
        }
        bool Key(const char *key, rapidjson::SizeType n, bool) {
                sum = &other;
                if (depth == 1 && n == 5 && std::memcmp(key, "board", 5) == 0)
                        sum = &t.board;
                else if (depth == 1 && n == 6 && std::memcmp(key, "policy", 6) == 0)
                        sum = &t.policy;
                else if (depth == 1 && n == 5 && std::memcmp(key, "value", 5) == 0)
                        sum = &t.value;
                return true;
        }
};

static json_totals read_rapidjson(const char *text, size_t n) {
        rapidjson::MemoryStream stream(text, n);
        rapidjson::Reader reader;
        sax handler;

        if (!reader.Parse(stream, handler)) {
                std::fprintf(stderr, "bench-json: RapidJSON stopped at byte %zu\n", reader.GetErrorOffset());
                std::exit(1);
        }
        return handler.t;
}

static json_totals read_azpar(const char *text, size_t n) {
        json_totals t;

        if (json_azpar_read(text, n, &t) < 0)
                std::exit(1);
        return t;
}

static void check_equal(const json_totals &a, const json_totals &b, const char *who) {
        if (a.n_samples == b.n_samples && a.board == b.board && a.value == b.value &&
            std::fabs(a.policy - b.policy) < 1e-6 * a.policy)
                return;
        std::fprintf(stderr, "bench-json: %s read something else\n", who);
        std::exit(1);
}

static double cpu_s() {
        timespec t;

        (void) clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
        return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_nsec) * 1e-9;
}

static double median(std::vector<double> x) {
        std::sort(x.begin(), x.end());
        return x[x.size() / 2];
}

static void bench(const char *style, bool is_spill, size_t n_bytes, unsigned n_rounds) {
        struct {
                const char *name;
                json_totals (*read)(const char *text, size_t n);
                std::vector<double> rates;
        } readers[] = { { "azpar", read_azpar, {} },
                        { "simdjson", read_simdjson, {} },
                        { "rapidjson", read_rapidjson, {} } };
        double fastest = 0;
        size_t n;
        char *text = json_azpar_make(n_bytes, is_spill, simdjson::SIMDJSON_PADDING, &n);
        json_totals want = read_azpar(text, n);

        for (unsigned round = 0; round < n_rounds; round++)
                for (auto &r : readers) {
                        double begin = cpu_s();
                        json_totals got = r.read(text, n);
                        double seconds = cpu_s() - begin;

                        check_equal(want, got, r.name);
                        r.rates.push_back(static_cast<double>(n) * 1e-6 / seconds);
                }
        for (auto &r : readers) {
                std::printf("json-%s-%s-mb-per-s\t%.6g\n", style, r.name, median(r.rates));
                if (r.read != read_azpar)
                        fastest = std::max(fastest, median(r.rates));
        }
        std::printf("json-%s-fastest-library-mb-per-s\t%.6g\n", style, fastest);
        std::printf("json-%s-bytes-per-sample\t%.6g\n", style,
                    static_cast<double>(n) / static_cast<double>(want.n_samples));
        std::free(text);
}

int main(int argc, char **argv) {
        size_t n_bytes = (argc > 1 ? std::strtoul(argv[1], nullptr, 10) : 50) * 1000000;
        unsigned n_rounds = argc > 2 ? static_cast<unsigned>(std::strtoul(argv[2], nullptr, 10)) : 7;

        if (n_bytes == 0 || n_rounds == 0) {
                std::fprintf(stderr, "usage: bench-json [MEGABYTES [ROUNDS]]\n");
                return 2;
        }
        try {
                bench("original", false, n_bytes, n_rounds);
                bench("spill", true, n_bytes, n_rounds);
        } catch (const std::exception &e) {
                std::fprintf(stderr, "bench-json: %s\n", e.what());
                return 1;
        }
        return 0;
}
