/* SPDX-License-Identifier: MIT */
/*
 * The baseline: self-play the original's way, in C++ with libtorch as one would naturally write it.
 *
 * One process plays one game at a time.  Each simulation evaluates one position (a batch of one, eager,
 * without gradients), each move starts a new tree of nodes on the heap, and every ten games the samples go to
 * a JSON file (nlohmann-json), which a collector reads back and deletes: the exchange between the original's
 * processes.  Settings are the original's (100 simulations, c_puct 1.5, noise 0.3 / 0.25, 30 plies of
 * temperature).  Nothing of its code is used, and of azpar only the rules of the games.
 *
 * Rows "metric<TAB>value": for each configuration evaluations, simulations and moves per CPU second
 * of one core; and the CPU time of the exchange per 1,000 samples.  Arguments: seconds per configuration (20)
 * and a part of the names to restrict it to.
 */
#include "tests/bench/plain-network.hh"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <filesystem>
#include <fstream>
#include <memory>
#include <random>
#include <string>
#include <utility>
#include <vector>

/* The header is C; this is the one C11 keyword in it that C++ spells otherwise. */
#define _Alignas alignas
extern "C" {
#include "common/games/game.h"
}
#undef _Alignas

namespace fs = std::filesystem;
using json = nlohmann::json;

constexpr int simulations = 100, temperature_plies = 30, games_per_file = 10;
constexpr double cpuct = 1.5, noise_alpha = 0.3, noise_weight = 0.25;

/* ---- game ---- */

struct Position {
        const game *rules;
        game_state state;

        explicit Position(const game *g) : rules(g) {
                g->start(g, &state);
        }

        std::vector<int> legal() const {
                uint16_t moves[GAME_MAX_MOVES];
                unsigned n = rules->legal(rules, &state, moves);

                return std::vector<int>(moves, moves + n);
        }

        void play(int move) {
                rules->apply(rules, &state, (uint16_t) move);
        }

        std::vector<float> planes() const {
                unsigned char bits[GAME_MAX_PLANES_BYTES];
                std::vector<float> ret((size_t) rules->planes * rules->cells);

                rules->encode(rules, &state, bits);
                for (size_t i = 0; i < ret.size(); i++)
                        ret[i] = (bits[i / 8] >> (i % 8)) & 1;
                return ret;
        }
};

/* ---- search ---- */

struct Node {
        double prior, value_sum = 0; /* from the side of the player who moved here */
        int visits = 0;
        std::vector<std::pair<int, std::unique_ptr<Node>>> children;

        explicit Node(double p) : prior(p) {
        }
};

struct Sample {
        std::vector<float> board;
        std::vector<double> policy;
        int player;
        double value;
};

struct Counts {
        uint64_t evaluations = 0, simulations = 0, moves = 0, games = 0;
};

class SelfPlay {
        const game *rules;
        std::shared_ptr<Net> net;
        std::mt19937 random{ 1 };

        /* Evaluate one position, give its node children. Return: value for the side to move. */
        double expand(Node &node, const Position &p) {
                auto planes = p.planes();
                auto input = torch::from_blob(planes.data(), { 1, rules->planes, rules->rows, rules->cols });
                auto [policy, value] = net->forward(input);
                auto probabilities = policy.exp();
                const float *prior = probabilities.data_ptr<float>();
                auto moves = p.legal();
                double sum = 0;

                for (int move : moves)
                        sum += prior[move];
                for (int move : moves)
                        node.children.emplace_back(move, std::make_unique<Node>(prior[move] / sum));
                counts.evaluations++;
                return value.item<double>();
        }

        static std::pair<int, std::unique_ptr<Node>> &select(Node &node) {
                std::pair<int, std::unique_ptr<Node>> *best = nullptr;
                double best_score = -1e9;

                for (auto &child : node.children) {
                        const Node &c = *child.second;
                        double q = c.visits ? c.value_sum / c.visits : 0;
                        double score = q + cpuct * c.prior * std::sqrt((double) node.visits) / (1 + c.visits);

                        if (score > best_score) {
                                best_score = score;
                                best = &child;
                        }
                }
                return *best;
        }

        void simulate(Node &root, Position p) {
                std::vector<Node *> path{ &root };
                double value;

                while (!path.back()->children.empty()) {
                        auto &child = select(*path.back());

                        p.play(child.first);
                        path.push_back(child.second.get());
                }
                value = p.state.over ? game_value(&p.state, p.state.to_move) : expand(*path.back(), p);
                for (size_t i = path.size(); i-- > 0;) {
                        value = -value; /* seen by who moved to this node */
                        path[i]->value_sum += value;
                        path[i]->visits++;
                }
                counts.simulations++;
        }

        void add_noise(Node &root) {
                std::gamma_distribution<double> gamma(noise_alpha, 1);
                std::vector<double> noise;
                double sum = 0;

                for (size_t i = 0; i < root.children.size(); i++) {
                        noise.push_back(gamma(random));
                        sum += noise.back();
                }
                for (size_t i = 0; i < root.children.size(); i++) {
                        double &prior = root.children[i].second->prior;

                        prior = (1 - noise_weight) * prior + noise_weight * noise[i] / sum;
                }
        }

        int choose(const Sample &s, int ply) {
                if (ply < temperature_plies)
                        return std::discrete_distribution<int>(s.policy.begin(), s.policy.end())(random);
                return (int) (std::max_element(s.policy.begin(), s.policy.end()) - s.policy.begin());
        }

        /* A new tree, as many simulations as there are to be, and the shares of the visits. */
        Sample search(const Position &p) {
                Sample s{ p.planes(), std::vector<double>(rules->moves), p.state.to_move, 0 };
                Node root(1);
                int total = 0;

                simulate(root, p);
                add_noise(root);
                for (int i = 1; i < simulations; i++)
                        simulate(root, p);
                for (auto &child : root.children)
                        total += child.second->visits;
                for (auto &child : root.children)
                        s.policy[child.first] = (double) child.second->visits / total;
                return s;
        }

      public:
        Counts counts;

        SelfPlay(const game *g, std::shared_ptr<Net> n) : rules(g), net(std::move(n)) {
        }

        /* Play on until the game or the time (@stop) is over. Return: the samples, without values if it was
         * cut short. */
        template <typename Stop> std::vector<Sample> play(Stop stop) {
                std::vector<Sample> samples;
                Position p(rules);

                while (!p.state.over) {
                        if (stop())
                                return samples;
                        samples.push_back(search(p));
                        p.play(choose(samples.back(), p.state.ply));
                        counts.moves++;
                }
                for (auto &sample : samples)
                        sample.value = game_value(&p.state, (unsigned) sample.player);
                counts.games++;

                return samples;
        }
};

/* ---- the exchange: worker_<N>/batch_<NNNNNN>.json ---- */

class Exchange {
        fs::path folder;
        unsigned n_files = 0;

      public:
        explicit Exchange(const fs::path &f) : folder(f / "worker_0") {
                fs::create_directories(folder);
        }

        void write(const std::vector<Sample> &samples) {
                char name[32];
                json batch = json::array();

                for (const auto &s : samples)
                        batch.push_back(
                                { { "board", s.board }, { "policy", s.policy }, { "value", s.value } });
                (void) std::snprintf(name, sizeof(name), "batch_%06u.json", n_files++);
                std::ofstream(folder / name) << batch;
        }

        /* What the original's trainer does with each file: read, keep the samples, delete. */
        std::vector<Sample> collect() {
                std::vector<Sample> ret;

                for (const auto &file : fs::directory_iterator(folder)) {
                        json batch = json::parse(std::ifstream(file.path()));

                        for (const auto &s : batch)
                                ret.push_back({ s["board"].get<std::vector<float>>(),
                                                s["policy"].get<std::vector<double>>(), 0,
                                                s["value"].get<double>() });
                        fs::remove(file.path());
                }
                return ret;
        }
};

/* ---- measure ---- */

static double cpu_seconds() {
        timespec t;

        clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
        return (double) t.tv_sec + 1e-9 * (double) t.tv_nsec;
}

struct Setting {
        const char *name;
        unsigned game;
        int64_t filters, blocks;
        unsigned draw_ply;
};

static const Setting settings[] = {
        { "128x10-15x15", GAME_GOMOKU, 128, 10, 100 },
        { "64x5-6x7", GAME_CONNECT4, 64, 5, 0 },
};

static void row(const char *name, const char *what, double value) {
        (void) std::printf("baseline-%s-%s\t%.3f\n", name, what, value);
        (void) std::fflush(stdout);
}

/* CPU seconds to write and to read back 1,000 samples, a hundred a file. */
static void measure_exchange(const char *name, std::vector<Sample> samples, const fs::path &folder) {
        Exchange exchange(folder / name);
        size_t n = samples.size(), n_written = 0, n_read;
        double begin, written;

        if (n == 0)
                return;
        begin = cpu_seconds();
        for (int i = 0; i < 10; i++) {
                std::vector<Sample> file;

                for (int k = 0; k < 100; k++)
                        file.push_back(samples[n_written++ % n]);
                exchange.write(file);
        }
        written = cpu_seconds();
        n_read = exchange.collect().size();
        row(name, "json-write-ms-per-1000-samples", 1e6 * (written - begin) / (double) n_written);
        row(name, "json-read-ms-per-1000-samples", 1e6 * (cpu_seconds() - written) / (double) n_read);
}

static void measure(const Setting &setting, double seconds, const fs::path &folder) {
        config c;
        game *g = nullptr;
        error e;

        config_defaults(&c);
        c.game_name = setting.game;
        c.game_draw_ply = setting.draw_ply;
        if (game_new(&c, &g, &e) < 0) {
                (void) std::fprintf(stderr, "bench-baseline: %s\n", e.text);
                std::exit(1);
        }
        auto net = std::make_shared<Net>(g->planes, g->cells, g->moves, setting.filters, setting.blocks);
        net->eval();
        SelfPlay play(g, net);
        Exchange exchange(folder);
        std::vector<Sample> file, all;

        (void) play.play([&] { return play.counts.moves > 0; }); /* the first move is slower */
        play.counts = Counts();
        double begin = cpu_seconds();
        while (cpu_seconds() - begin < seconds) {
                auto samples = play.play([&] { return cpu_seconds() - begin >= seconds; });

                all.insert(all.end(), samples.begin(), samples.end());
                file.insert(file.end(), samples.begin(), samples.end());
                if (play.counts.games % games_per_file == 0) {
                        exchange.write(file);
                        file.clear();
                }
        }
        double spent = cpu_seconds() - begin;

        row(setting.name, "evaluations-per-s", (double) play.counts.evaluations / spent);
        row(setting.name, "simulations-per-s", (double) play.counts.simulations / spent);
        row(setting.name, "moves-per-s", (double) play.counts.moves / spent);
        measure_exchange(setting.name, all, folder);
        game_free(g);
}

int main(int argc, char **argv) {
        double seconds = argc > 1 ? std::atof(argv[1]) : 20;
        char folder[] = "/tmp/azpar-baseline-XXXXXX";
        torch::NoGradGuard no_grad;

        if (!mkdtemp(folder)) {
                std::perror("bench-baseline: mkdtemp");
                return 1;
        }
        torch::set_num_threads(1);
        torch::manual_seed(1);
        for (const auto &setting : settings)
                if (argc < 3 || std::strstr(setting.name, argv[2]))
                        measure(setting, seconds, folder);
        fs::remove_all(folder);
        return 0;
}
